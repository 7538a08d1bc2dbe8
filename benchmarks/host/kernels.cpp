// Host kernels against scalar loops on the same input in the same process: the ratio of the two is
// the figure to quote. bytes/s counts the rows read once (compare with `read_roofline`); items are
// rows, so that ns per row is time / rows. Shape: head_dim 64, three query heads.

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/host/kernels/histogram.hpp>
#include <kvfreeze/host/kernels/key_residuals.hpp>
#include <kvfreeze/host/kernels/mass_threshold.hpp>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/kernels/prefill.hpp>
#include <kvfreeze/host/kernels/value_codes.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;

constexpr int dim = 64;
constexpr int heads = 3;
constexpr std::size_t row_bytes = 2 * dim * sizeof(Half);

std::vector<float> normal_numbers(std::size_t n, float sigma) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

std::size_t count_of(benchmark::State const& state) {
  return static_cast<std::size_t>(state.range(0));
}

void report(benchmark::State& state, std::size_t bytes) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

/// Blocks of 16 rows, aligned to cache lines.
struct Rows {
  std::vector<Half> storage;
  host::RowBlocks<Half> blocks;

  explicit Rows(std::size_t n) : storage((n + 15) / 16 * 16 * 2 * dim + 32) {
    auto const numbers = normal_numbers(1 << 16, 1.0F);
    for (std::size_t i = 0; i < storage.size(); i += numbers.size()) {
      host::from_floats(numbers.data(), storage.data() + i,
                        std::min(numbers.size(), storage.size() - i));
    }
    auto const address = reinterpret_cast<std::uintptr_t>(storage.data());
    blocks.base = reinterpret_cast<std::byte const*>(storage.data()) + (64 - address % 64) % 64;
    blocks.row_elements = dim;
    blocks.block_bytes = 16 * row_bytes;
  }
};

void read_roofline(benchmark::State& state) {
  std::vector<std::int32_t> const data(count_of(state) * row_bytes / 4, 1);
  for (auto _ : state) {
    host::I32x16 total[4] = {host::splat(0), host::splat(0), host::splat(0), host::splat(0)};
    for (std::size_t i = 0; i + 64 <= data.size(); i += 64) {
      for (std::size_t j = 0; j < 4; ++j) {
        total[j] = host::add(total[j], host::load(data.data() + i + 16 * j));
      }
    }
    std::int32_t lanes[16];
    host::store(lanes, host::add(host::add(total[0], total[1]), host::add(total[2], total[3])));
    benchmark::DoNotOptimize(lanes);
  }
  report(state, data.size() * 4);
}

/// Where an attention of all heads goes.
struct SoftmaxOutput {
  std::vector<float> max = std::vector<float>(heads);
  std::vector<float> sum = std::vector<float>(heads);
  std::vector<float> out = std::vector<float>(heads * dim);

  host::OnlineSoftmax softmax() { return {heads, dim, max.data(), sum.data(), out.data()}; }
};

template <bool Scattered>
void attend(benchmark::State& state) {
  Rows const rows(count_of(state));
  auto const n = static_cast<int>(state.range(0));
  std::vector<std::uint32_t> slots(count_of(state));
  std::iota(slots.begin(), slots.end(), 0U);
  std::shuffle(slots.begin(), slots.end(), std::mt19937(1));
  auto const q = normal_numbers(heads * dim, 0.2F);
  SoftmaxOutput output;
  host::OnlineSoftmax const softmax = output.softmax();
  for (auto _ : state) {
    softmax.reset();
    host::attend(rows.blocks, Scattered ? slots.data() : nullptr, n, q.data(), softmax, nullptr, 0);
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, count_of(state) * row_bytes);
}

/// V alone, the logits being known. Against `attend<false>`.
void attend_known(benchmark::State& state) {
  Rows const rows(count_of(state));
  auto const n = static_cast<int>(state.range(0));
  auto const logits = normal_numbers(heads * count_of(state), 4.0F);
  SoftmaxOutput output;
  host::OnlineSoftmax const softmax = output.softmax();
  for (auto _ : state) {
    softmax.reset();
    host::attend_known(rows.blocks, 0, n, logits.data(), n, softmax);
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, count_of(state) * row_bytes / 2);
}

/// K alone. Against `attend<false>`.
void block_logits(benchmark::State& state) {
  Rows const rows(count_of(state));
  auto const n = static_cast<int>(state.range(0));
  auto const q = normal_numbers(heads * dim, 0.2F);
  std::vector<float> logits(heads * count_of(state));
  for (auto _ : state) {
    host::block_logits(rows.blocks, n, q.data(), heads, dim, logits.data(), n);
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, count_of(state) * row_bytes / 2);
}

/// Logits to weights, without rows. Against `masses`.
void weigh(benchmark::State& state) {
  auto const logits = normal_numbers(heads * count_of(state), 4.0F);
  auto const n = static_cast<int>(state.range(0));
  std::vector<float> weights(logits.size());
  SoftmaxOutput output;
  host::OnlineSoftmax const softmax = output.softmax();
  for (auto _ : state) {
    softmax.reset();
    host::weigh(logits.data(), n, n, softmax, weights.data());
    benchmark::DoNotOptimize(weights.data());
  }
  report(state, logits.size() * sizeof(float));
}

void attend_scalar(benchmark::State& state) {
  Rows const rows(count_of(state));
  auto const n = static_cast<std::uint32_t>(state.range(0));
  auto const q = normal_numbers(heads * dim, 0.2F);
  std::vector<float> logits(n);
  std::vector<float> out(heads * dim);
  for (auto _ : state) {
    for (std::size_t h = 0; h < heads; ++h) {
      float highest = -std::numeric_limits<float>::infinity();
      for (std::uint32_t r = 0; r < n; ++r) {
        Half const* const k = rows.blocks.k(r);
        float total = 0.0F;
        for (std::size_t d = 0; d < dim; ++d) {
          total += q[h * dim + d] * to_float(k[d]);
        }
        logits[r] = total;
        highest = std::max(highest, total);
      }
      std::fill_n(out.data() + h * dim, dim, 0.0F);
      for (std::uint32_t r = 0; r < n; ++r) {
        Half const* const v = rows.blocks.v(r);
        float const weight = std::exp2(logits[r] - highest);
        for (std::size_t d = 0; d < dim; ++d) {
          out[h * dim + d] += weight * to_float(v[d]);
        }
      }
    }
    benchmark::DoNotOptimize(out.data());
  }
  report(state, count_of(state) * row_bytes);
}

/// 64 queries over n rows, all visible: items are multiply-adds.
void prefill(benchmark::State& state) {
  constexpr int queries = 64;
  auto const n = static_cast<int>(state.range(0));
  auto const k = normal_numbers(count_of(state) * dim, 1.0F);
  auto const v = normal_numbers(count_of(state) * dim, 1.0F);
  auto const q = normal_numbers(queries * heads * dim, 0.2F);
  std::vector<float> max(queries * heads);
  std::vector<float> sum(max.size());
  std::vector<float> out(q.size());
  std::vector<host::OnlineSoftmax> states;
  for (std::size_t i = 0; i < queries; ++i) {
    states.push_back(
        {heads, dim, max.data() + i * heads, sum.data() + i * heads, out.data() + i * heads * dim});
  }
  for (auto _ : state) {
    for (auto const& softmax : states) {
      softmax.reset();
    }
    for (int first = 0; first < n; first += 64) {
      host::attend_tile({k.data() + first * dim, v.data() + first * dim, 64, nullptr, first},
                        q.data(), heads * dim, queries, n, states.data());
    }
    benchmark::DoNotOptimize(out.data());
  }
  auto const operations = 4.0 * dim * heads * queries * static_cast<double>(n);
  state.counters["FLOP/s"] =
      benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
}

void masses(benchmark::State& state) {
  auto const logits = normal_numbers(heads * count_of(state), 4.0F);
  auto const n = static_cast<int>(state.range(0));
  std::vector<float> work(logits.size());
  std::vector<host::Mass> mass(count_of(state));
  for (auto _ : state) {
    std::copy(logits.begin(), logits.end(), work.begin());
    host::softmax_masses(work.data(), n, heads, n, mass.data(), nullptr);
    benchmark::DoNotOptimize(mass.data());
  }
  report(state, logits.size() * sizeof(float));
}

/// What the other benchmarks of masses spend on fresh logits: to be taken off.
void masses_copy(benchmark::State& state) {
  auto const logits = normal_numbers(heads * count_of(state), 4.0F);
  std::vector<float> work(logits.size());
  for (auto _ : state) {
    std::copy(logits.begin(), logits.end(), work.begin());
    benchmark::DoNotOptimize(work.data());
    benchmark::ClobberMemory();
  }
  report(state, logits.size() * sizeof(float));
}

/// Three quarters of the rows take part; Known: the largest logits come with them.
template <bool Known>
void masses_of_run(benchmark::State& state) {
  auto const logits = normal_numbers(heads * count_of(state), 4.0F);
  auto const n = static_cast<int>(state.range(0));
  std::vector<float> work(logits.size());
  std::vector<host::Mass> mass(count_of(state));
  std::vector<std::uint8_t> states(count_of(state));
  std::mt19937 random(2);
  std::generate(states.begin(), states.end(),
                [&] { return static_cast<std::uint8_t>(random() % 4 != 0 ? 0x12 : 0x10); });
  float highest[heads];
  for (int h = 0; h < heads; ++h) {
    highest[h] = -std::numeric_limits<float>::infinity();
    for (int i = 0; i < n; ++i) {
      float const x = logits[static_cast<std::size_t>(h * n + i)];
      highest[h] =
          states[static_cast<std::size_t>(i)] == 0x12 ? std::max(highest[h], x) : highest[h];
    }
  }
  host::LogitRun const runs[] = {{work.data(), n, n, states.data(), mass.data()}};
  for (auto _ : state) {
    std::copy(logits.begin(), logits.end(), work.begin());
    host::softmax_masses(runs, heads, nullptr, Known ? highest : nullptr);
    benchmark::DoNotOptimize(mass.data());
  }
  report(state, logits.size() * sizeof(float));
}

void masses_scalar(benchmark::State& state) {
  auto const logits = normal_numbers(heads * count_of(state), 4.0F);
  std::vector<float> work(logits.size());
  std::vector<float> mass(count_of(state));
  for (auto _ : state) {
    std::copy(logits.begin(), logits.end(), work.begin());
    std::fill(mass.begin(), mass.end(), 0.0F);
    for (std::size_t h = 0; h < heads; ++h) {
      float* const row = work.data() + h * mass.size();
      float const highest = *std::max_element(row, row + mass.size());
      float sum = 0.0F;
      for (std::size_t i = 0; i < mass.size(); ++i) {
        row[i] = std::exp2(row[i] - highest);
        sum += row[i];
      }
      for (std::size_t i = 0; i < mass.size(); ++i) {
        mass[i] += row[i] / (sum * static_cast<float>(heads));
      }
    }
    benchmark::DoNotOptimize(mass.data());
  }
  report(state, logits.size() * sizeof(float));
}

std::vector<host::Mass> some_masses(std::size_t n) {
  auto logits = normal_numbers(n, 4.0F);
  std::vector<host::Mass> mass(n);
  host::softmax_masses(logits.data(), 0, 1, static_cast<int>(n), mass.data(), nullptr);
  return mass;
}

/// Threshold that leaves out 2 % of the mass, from a guess that is some bins off, then the list of
/// what is above. Against `histogram_cutoff`.
template <int BinsOff>
void threshold_list(benchmark::State& state) {
  auto mass = some_masses(count_of(state));
  auto const n = static_cast<int>(state.range(0));
  std::vector<std::uint32_t> list(mass.size());
  host::LogitRun const runs[] = {{nullptr, 0, n, nullptr, mass.data()}};
  int const bin = host::log_bin(host::mass_threshold(runs, host::to_mass(0.02F), 0));
  std::uint32_t const guess = host::log_bin_floor(bin + BinsOff);
  for (auto _ : state) {
    auto const threshold = host::mass_threshold(runs, host::to_mass(0.02F), guess);
    benchmark::DoNotOptimize(host::list_at_least(mass.data(), nullptr, n, threshold, list.data()));
  }
  report(state, mass.size() * sizeof(host::Mass));
}

void list_above(benchmark::State& state) {
  auto const mass = some_masses(count_of(state));
  auto const n = static_cast<int>(state.range(0));
  std::vector<std::uint32_t> list(mass.size());
  std::vector<std::uint8_t> const states(mass.size(), 2);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        host::list_at_least(mass.data(), states.data(), n, 1U << 16, list.data()));
  }
  report(state, mass.size() * sizeof(host::Mass));
}

/// Threshold that leaves out 2 % of the mass, then the flags.
void histogram_cutoff(benchmark::State& state) {
  auto const mass = some_masses(count_of(state));
  std::vector<std::uint8_t> wanted(mass.size());
  for (auto _ : state) {
    host::LogHistogram histogram;
    histogram.add(mass.data(), nullptr, mass.size());
    host::apply_cutoff(histogram.all_but(host::to_mass(0.02F)), mass.data(), nullptr, mass.size(),
                       wanted.data());
    benchmark::DoNotOptimize(wanted.data());
  }
  report(state, mass.size() * sizeof(host::Mass));
}

void sorted_cutoff(benchmark::State& state) {  // the same by std::sort
  auto const mass = some_masses(count_of(state));
  std::vector<host::Mass> order(mass.size());
  std::vector<std::uint8_t> wanted(mass.size());
  for (auto _ : state) {
    order = mass;
    std::sort(order.begin(), order.end());
    std::uint64_t sum = 0;
    host::Mass threshold = 0;
    for (host::Mass const m : order) {
      sum += m;
      threshold = m;
      if (sum > host::to_mass(0.02F)) {
        break;
      }
    }
    std::transform(mass.begin(), mass.end(), wanted.begin(),
                   [=](host::Mass m) { return static_cast<std::uint8_t>(m >= threshold ? 1 : 0); });
    benchmark::DoNotOptimize(wanted.data());
  }
  report(state, mass.size() * sizeof(host::Mass));
}

/// Memory that begins on a cache line.
template <class T>
struct OnLine {
  std::vector<T> storage;
  T* data;

  explicit OnLine(std::size_t n)
      : storage(n + 64 / sizeof(T)),
        data(storage.data() +
             (64 - reinterpret_cast<std::uintptr_t>(storage.data()) % 64) % 64 / sizeof(T)) {}
};

/// Groups of 64 keys in codes, one behind the other, and memory for the queries folded for them.
template <int Bits>
struct CodedKeys {
  std::size_t bytes = KeyCodes<Bits>::bytes(dim);
  OnLine<std::byte> groups;
  std::byte* base = groups.data;
  OnLine<std::int8_t> weights;
  std::vector<host::FoldScale> scales;
  host::FoldedQueries folded;

  explicit CodedKeys(std::size_t n)
      : groups(n / 64 * bytes),
        weights(n / 64 * heads * dim),
        scales(n / 64 * heads),
        folded{weights.data, scales.data(), heads, dim} {
    auto const keys = normal_numbers(64 * dim, 1.0F);
    for (std::size_t g = 0; g < n / 64; ++g) {
      KeyCodes<Bits>::encode(keys.data(), dim, base + g * bytes);
    }
  }

  [[nodiscard]] Half const* minima(std::size_t group) const noexcept {
    return reinterpret_cast<Half const*>(base + group * bytes + 8U * Bits * dim);
  }

  void fold(float const* q) const noexcept {
    for (std::size_t g = 0; g < scales.size() / heads; ++g) {
      host::fold_queries(q, heads, dim, minima(g), minima(g) + dim, folded, static_cast<int>(g));
    }
  }
};

/// Queries folded and 64 rows scanned, group by group.
template <int Bits>
void fold_and_scan(benchmark::State& state) {
  CodedKeys<Bits> const keys(count_of(state));
  auto const q = normal_numbers(heads * dim, 0.2F);
  std::vector<float> logits(heads * count_of(state));
  for (auto _ : state) {
    for (std::size_t g = 0; g < count_of(state) / 64; ++g) {
      auto const group = static_cast<int>(g);
      host::fold_queries(q.data(), heads, dim, keys.minima(g), keys.minima(g) + dim, keys.folded,
                         group);
      host::scan_folded<Bits>(keys.folded, group, keys.base + g * keys.bytes, 64,
                              logits.data() + 64 * g, state.range(0));
    }
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, count_of(state) / 64 * keys.bytes);
}

void fold(benchmark::State& state) {
  CodedKeys<2> const keys(count_of(state));
  auto const q = normal_numbers(heads * dim, 0.2F);
  for (auto _ : state) {
    keys.fold(q.data());
    benchmark::DoNotOptimize(keys.weights.data);
  }
  report(state, count_of(state) / 64 * 4 * dim);
}

/// The same of nested codes: screens of one bit a channel, and lower bits.
struct NestedKeys {
  using Digest = kvfreeze::NestedKeyCodes<1, 5>;
  static constexpr int units = Digest::units(dim);

  std::size_t bytes = Digest::bytes(dim);
  OnLine<std::byte> groups;
  std::byte* base = groups.data;
  OnLine<std::int8_t> weights;
  std::vector<host::FoldScale> scales;
  host::NestedQueries folded;

  explicit NestedKeys(std::size_t n)
      : groups(n / 64 * bytes),
        weights(n / 64 * heads * static_cast<std::size_t>(host::NestedQueries::line(dim, units))),
        scales(n / 64 * heads),
        folded{weights.data, scales.data(), heads, dim, units} {
    auto keys = normal_numbers(64 * dim, 1.0F);
    for (std::size_t i = 0; i < keys.size(); ++i) {  // channels of unlike importance
      keys[i] *= static_cast<float>(1 + i % dim / 8);
    }
    for (std::size_t g = 0; g < n / 64; ++g) {
      Digest::encode(keys.data(), dim, base + g * bytes);
    }
  }

  void fold(kvfreeze::DigestQuery const& query) const noexcept {
    for (std::size_t g = 0; g < scales.size() / heads; ++g) {
      Digest::fold(query, base + g * bytes, folded, static_cast<int>(g));
    }
  }
};

void nested_fold(benchmark::State& state) {
  NestedKeys const keys(count_of(state));
  auto const q = normal_numbers(heads * dim, 0.2F);
  for (auto _ : state) {
    keys.fold({q.data(), heads, dim});
    benchmark::DoNotOptimize(keys.weights.data);
  }
  report(state, count_of(state) / 64 * 4 * dim);
}

void nested_fold_and_scan(benchmark::State& state) {
  NestedKeys const keys(count_of(state));
  auto const q = normal_numbers(heads * dim, 0.2F);
  std::vector<float> logits(heads * count_of(state));
  for (auto _ : state) {
    for (std::size_t g = 0; g < count_of(state) / 64; ++g) {
      auto const group = static_cast<int>(g);
      std::byte const* const codes = keys.base + g * keys.bytes;
      NestedKeys::Digest::fold({q.data(), heads, dim}, codes, keys.folded, group);
      NestedKeys::Digest::scan_folded(keys.folded, group, codes, logits.data() + 64 * g,
                                      state.range(0));
    }
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, count_of(state) / 64 * keys.bytes);
}

/// Lower bits of rows of which every fourth is in the pool.
template <int Residual>
void residuals(benchmark::State& state) {
  auto const n = static_cast<int>(state.range(0));
  NestedKeys const keys(4 * count_of(state));
  auto const q = normal_numbers(heads * dim, 0.2F);
  keys.fold({q.data(), heads, dim});
  std::size_t const bytes = host::residual_bytes<Residual>(dim);
  std::vector<std::byte> const pool(count_of(state) * bytes, std::byte{0x5A});
  std::vector<std::uint32_t> groups(count_of(state));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    groups[i] = static_cast<std::uint32_t>(4 * i / 64);
  }
  std::vector<float> logits(heads * count_of(state));
  for (auto _ : state) {
    host::add_residuals<Residual>({pool.data(), 16 * bytes, bytes}, n, groups.data(),
                                  keys.folded.cells(), logits.data(), n);
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, pool.size());
}

/// What codes of keys replace: q . k of rows of Half.
void row_logits_half(benchmark::State& state) {
  Rows const rows(count_of(state));
  auto const n = static_cast<int>(state.range(0));
  std::vector<Half const*> keys(count_of(state));
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i] = rows.blocks.k(static_cast<std::uint32_t>(i));
  }
  auto const q = normal_numbers(heads * dim, 0.2F);
  std::vector<float> logits(heads * count_of(state));
  for (auto _ : state) {
    host::row_logits(keys.data(), n, q.data(), heads, dim, logits.data(), n);
    benchmark::DoNotOptimize(logits.data());
  }
  report(state, count_of(state) * row_bytes / 2);
}

template <int Bits>
void values(benchmark::State& state) {
  auto const n = static_cast<int>(state.range(0));
  auto const v = normal_numbers(64 * dim, 1.0F);
  std::size_t const bytes = host::value_code_bytes<Bits>(dim);
  std::vector<std::byte> pool(count_of(state) * bytes);
  std::vector<BFloat16> scales(count_of(state));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = host::encode_values<Bits>(v.data() + i % 64 * dim, dim, pool.data() + i * bytes);
  }
  std::vector<float> const weights(heads * count_of(state), 0.01F);
  std::vector<float> work(weights);
  std::vector<float> out(heads * dim);
  for (auto _ : state) {
    std::copy(weights.begin(), weights.end(), work.begin());  // 0.1 ns a row in the cache
    host::accumulate_values<Bits>({pool.data(), 16 * bytes, bytes},
                                  {reinterpret_cast<std::byte const*>(scales.data()), 32, 2}, n,
                                  work.data(), n, heads, dim, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  report(state, count_of(state) * (bytes + 2));
}

/// What codes of values replace: the weighted sum of rows of Half.
void values_half(benchmark::State& state) {
  Rows const rows(count_of(state));
  auto const n = static_cast<std::uint32_t>(state.range(0));
  std::vector<float> const weights(heads * host::tile_rows, 0.01F);
  std::vector<float> out(heads * dim);
  float const factors[heads] = {1.0F, 1.0F, 1.0F};
  float* const outs[heads] = {out.data(), out.data() + dim, out.data() + 2 * dim};
  for (auto _ : state) {
    for (std::uint32_t first = 0; first < n; first += host::tile_rows) {
      Half const* v[host::tile_rows];
      for (std::uint32_t i = 0; i < host::tile_rows; ++i) {
        v[i] = rows.blocks.v(first + i);
      }
      host::kernels::accumulate<heads, dim>(v, 0, host::tile_rows, weights.data(), factors, outs,
                                            dim);
    }
    benchmark::DoNotOptimize(out.data());
  }
  report(state, count_of(state) * row_bytes / 2);
}

template <int Bits>
void encode_values(benchmark::State& state) {
  auto const v = normal_numbers(count_of(state) * dim, 1.0F);
  std::vector<std::byte> codes(host::value_code_bytes<Bits>(dim));
  for (auto _ : state) {
    for (std::size_t i = 0; i < count_of(state); ++i) {
      auto scale = host::encode_values<Bits>(v.data() + i * dim, dim, codes.data());
      benchmark::DoNotOptimize(scale);
    }
    benchmark::DoNotOptimize(codes.data());
  }
  report(state, v.size() * sizeof(float));
}

void rows(benchmark::internal::Benchmark* b) { b->Arg(512)->Arg(8192)->Arg(1 << 19); }

void lanes(benchmark::internal::Benchmark* b) { b->Arg(1000)->Arg(8000); }

BENCHMARK(read_roofline)->Apply(rows);
BENCHMARK(attend<false>)->Apply(rows);
BENCHMARK(attend<true>)->Apply(rows);
BENCHMARK(attend_known)->Apply(rows);
BENCHMARK(block_logits)->Apply(rows);
BENCHMARK(attend_scalar)->Arg(8192);
BENCHMARK(row_logits_half)->Apply(rows);
BENCHMARK(fold_and_scan<2>)->Apply(rows);
BENCHMARK(fold_and_scan<4>)->Apply(rows);
BENCHMARK(fold)->Apply(rows);
BENCHMARK(nested_fold)->Apply(rows);
BENCHMARK(nested_fold_and_scan)->Apply(rows);
BENCHMARK(residuals<2>)->Apply(rows);
BENCHMARK(residuals<4>)->Apply(rows);
BENCHMARK(values_half)->Apply(rows);
BENCHMARK(values<2>)->Apply(rows);
BENCHMARK(values<4>)->Apply(rows);
BENCHMARK(values<8>)->Apply(rows);
BENCHMARK(encode_values<4>)->Arg(512);
BENCHMARK(prefill)->Arg(2048);
BENCHMARK(masses)->Apply(lanes);
BENCHMARK(masses_of_run<false>)->Apply(lanes);
BENCHMARK(masses_of_run<true>)->Apply(lanes);
BENCHMARK(masses_scalar)->Apply(lanes);
BENCHMARK(masses_copy)->Apply(lanes);
BENCHMARK(weigh)->Apply(lanes);
BENCHMARK(threshold_list<0>)->Apply(lanes);
BENCHMARK(threshold_list<1>)->Apply(lanes);
BENCHMARK(threshold_list<3>)->Apply(lanes);
BENCHMARK(threshold_list<20>)->Apply(lanes);
BENCHMARK(list_above)->Apply(lanes);
BENCHMARK(histogram_cutoff)->Apply(lanes);
BENCHMARK(sorted_cutoff)->Apply(lanes);

}  // namespace
