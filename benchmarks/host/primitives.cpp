// Public host primitives against the standard algorithm a user would write instead. Each pair runs
// on the same input in the same process: the ratio of the two is the figure to quote. bytes/s
// counts the input once: compare with `memcpy`, the roofline.

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/host/compact.hpp>
#include <kvfreeze/host/digest_scan.hpp>
#include <kvfreeze/host/entropy.hpp>
#include <kvfreeze/host/top_k.hpp>
#include <kvfreeze/host/top_p.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace {

using namespace kvfreeze;

std::vector<float> normal_numbers(std::size_t n, float sigma) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

std::size_t elements(benchmark::State const& state) {
  return static_cast<std::size_t>(state.range(0));
}

void report(benchmark::State& state, std::size_t bytes) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void memcpy_roofline(benchmark::State& state) {
  auto const in = normal_numbers(elements(state), 1.0F);
  std::vector<float> out(in.size());
  for (auto _ : state) {
    std::memcpy(out.data(), in.data(), in.size() * sizeof(float));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  report(state, in.size() * sizeof(float));
}

void entropy_ours(benchmark::State& state) {
  auto const logits = normal_numbers(elements(state), 3.0F);
  for (auto _ : state) {
    benchmark::DoNotOptimize(host::entropy<float>(logits));
  }
  report(state, logits.size() * sizeof(float));
}

void entropy_std(benchmark::State& state) {  // two passes, std::exp in float, sums in double
  auto const logits = normal_numbers(elements(state), 3.0F);
  for (auto _ : state) {
    float const top = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    double weighted = 0.0;
    for (float const x : logits) {
      float const e = std::exp(x - top);
      sum += static_cast<double>(e);
      weighted += static_cast<double>(e) * static_cast<double>(x - top);
    }
    benchmark::DoNotOptimize(std::log(sum) - weighted / sum);
  }
  report(state, logits.size() * sizeof(float));
}

void top_k_ours(benchmark::State& state) {
  auto const scores = normal_numbers(elements(state), 1.0F);
  std::vector<std::uint32_t> const offsets = {0, static_cast<std::uint32_t>(scores.size())};
  std::vector<std::uint8_t> selected(scores.size());
  for (auto _ : state) {
    host::top_k(scores, offsets, offsets[1] / 16, selected);
    benchmark::DoNotOptimize(selected.data());
  }
  report(state, scores.size() * sizeof(float));
}

void top_k_std(benchmark::State& state) {  // nth_element on indices, ties by position
  auto const scores = normal_numbers(elements(state), 1.0F);
  std::vector<std::uint32_t> order(scores.size());
  std::vector<std::uint8_t> selected(scores.size());
  for (auto _ : state) {
    std::iota(order.begin(), order.end(), 0U);
    auto const middle = order.begin() + static_cast<std::ptrdiff_t>(order.size() / 16);
    std::nth_element(order.begin(), middle, order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
    });
    std::fill(selected.begin(), selected.end(), std::uint8_t{0});
    std::for_each(order.begin(), middle, [&](std::uint32_t i) { selected[i] = 1; });
    benchmark::DoNotOptimize(selected.data());
  }
  report(state, scores.size() * sizeof(float));
}

std::vector<std::uint32_t> random_masses(std::size_t n) {
  auto const logits = normal_numbers(n, 3.0F);
  std::vector<std::uint32_t> out(n);
  std::transform(logits.begin(), logits.end(), out.begin(),
                 [](float x) { return static_cast<std::uint32_t>(std::exp(x) * 1000.0F); });
  return out;
}

void top_p_ours(benchmark::State& state) {
  auto const masses = random_masses(elements(state));
  std::vector<std::uint32_t> const offsets = {0, static_cast<std::uint32_t>(masses.size())};
  std::vector<std::uint8_t> selected(masses.size());
  for (auto _ : state) {
    host::top_p(masses, offsets, 0.95F, selected);
    benchmark::DoNotOptimize(selected.data());
  }
  report(state, masses.size() * sizeof(std::uint32_t));
}

void top_p_std(benchmark::State& state) {  // sort indices, walk until the sum is reached
  auto const masses = random_masses(elements(state));
  std::vector<std::uint32_t> order(masses.size());
  std::vector<std::uint8_t> selected(masses.size());
  for (auto _ : state) {
    std::iota(order.begin(), order.end(), 0U);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return masses[a] > masses[b] || (masses[a] == masses[b] && a < b);
    });
    auto const total = std::accumulate(masses.begin(), masses.end(), std::uint64_t{0});
    auto const goal = static_cast<std::uint64_t>(static_cast<double>(total) * 0.95);
    std::fill(selected.begin(), selected.end(), std::uint8_t{0});
    std::uint64_t sum = 0;
    for (std::size_t i = 0; sum < goal; ++i) {
      selected[order[i]] = 1;
      sum += masses[order[i]];
    }
    benchmark::DoNotOptimize(selected.data());
  }
  report(state, masses.size() * sizeof(std::uint32_t));
}

std::vector<std::uint8_t> random_flags(std::size_t n) {
  std::mt19937 random(2);
  std::vector<std::uint8_t> out(n);
  for (auto& flag : out) {
    flag = random() % 4 == 0 ? 1 : 0;
  }
  return out;
}

void compact_ours(benchmark::State& state) {
  auto const values = normal_numbers(elements(state), 1.0F);
  auto const flags = random_flags(values.size());
  std::vector<float> out(values.size());
  for (auto _ : state) {
    benchmark::DoNotOptimize(host::compact<float>(flags, values, out));
    benchmark::ClobberMemory();
  }
  report(state, values.size() * 5);
}

void compact_std(benchmark::State& state) {  // what std::copy_if would do, had it flags
  auto const values = normal_numbers(elements(state), 1.0F);
  auto const flags = random_flags(values.size());
  std::vector<float> out(values.size());
  for (auto _ : state) {
    std::size_t i = 0;
    benchmark::DoNotOptimize(std::copy_if(values.begin(), values.end(), out.begin(),
                                          [&](float) { return flags[i++] != 0; }));
    benchmark::ClobberMemory();
  }
  report(state, values.size() * 5);
}

constexpr int scan_dim = 64;
constexpr int scan_heads = 3;

template <int Bits>
void digest_scan_ours(benchmark::State& state) {
  using Digest = KeyCodes<Bits>;
  std::size_t const count = elements(state) / 64;
  auto const keys = normal_numbers(64 * scan_dim, 1.0F);
  auto const q = normal_numbers(scan_heads * scan_dim, 0.3F);
  std::vector<std::byte> groups(count * Digest::bytes(scan_dim));
  for (std::size_t g = 0; g < count; ++g) {
    Digest::encode(keys.data(), scan_dim, groups.data() + g * Digest::bytes(scan_dim));
  }
  std::vector<float> logits(scan_heads * count * 64);
  for (auto _ : state) {
    host::digest_scan<Digest>({q.data(), scan_heads, scan_dim}, groups, logits, count * 64);
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, groups.size());
}

void exact_scan_std(benchmark::State& state) {  // std::inner_product with the keys themselves
  auto const keys = normal_numbers(elements(state) * scan_dim, 1.0F);
  auto const q = normal_numbers(scan_heads * scan_dim, 0.3F);
  std::vector<float> logits(scan_heads * elements(state));
  for (auto _ : state) {
    for (std::size_t h = 0; h < scan_heads; ++h) {
      for (std::size_t r = 0; r < elements(state); ++r) {
        logits[h * elements(state) + r] =
            std::inner_product(q.begin() + static_cast<std::ptrdiff_t>(h * scan_dim),
                               q.begin() + static_cast<std::ptrdiff_t>((h + 1) * scan_dim),
                               keys.begin() + static_cast<std::ptrdiff_t>(r * scan_dim), 0.0F);
      }
    }
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, keys.size() * sizeof(float));
}

void sizes(benchmark::internal::Benchmark* b) { b->Arg(8192)->Arg(49152)->Arg(1 << 20); }

void rows(benchmark::internal::Benchmark* b) { b->Arg(2048)->Arg(8192)->Arg(131072); }

BENCHMARK(memcpy_roofline)->Apply(sizes);
BENCHMARK(entropy_ours)->Apply(sizes);
BENCHMARK(entropy_std)->Apply(sizes);
BENCHMARK(top_k_ours)->Apply(sizes);
BENCHMARK(top_k_std)->Apply(sizes);
BENCHMARK(top_p_ours)->Apply(sizes);
BENCHMARK(top_p_std)->Apply(sizes);
BENCHMARK(compact_ours)->Apply(sizes);
BENCHMARK(compact_std)->Apply(sizes);
BENCHMARK(digest_scan_ours<2>)->Apply(rows);
BENCHMARK(digest_scan_ours<4>)->Apply(rows);
BENCHMARK(digest_scan_ours<8>)->Apply(rows);
BENCHMARK(exact_scan_std)->Apply(rows);

}  // namespace
