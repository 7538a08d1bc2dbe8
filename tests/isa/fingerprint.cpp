// Runs every host kernel on seeded inputs and prints a hash of the results per kernel. Built with
// different instruction sets, the programs must print the same lines: the first line, on stderr,
// names the set.

#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/mean_key.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/host/compact.hpp>
#include <kvfreeze/host/digest_scan.hpp>
#include <kvfreeze/host/entropy.hpp>
#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/host/kernels/dot.hpp>
#include <kvfreeze/host/kernels/histogram.hpp>
#include <kvfreeze/host/kernels/key_residuals.hpp>
#include <kvfreeze/host/kernels/mass_threshold.hpp>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/kernels/prefill.hpp>
#include <kvfreeze/host/kernels/rotation.hpp>
#include <kvfreeze/host/kernels/value_codes.hpp>
#include <kvfreeze/host/top_k.hpp>
#include <kvfreeze/host/top_p.hpp>
#include <kvfreeze/presets.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

namespace {

using namespace kvfreeze;

/// Random numbers that every compiler makes alike: integers times powers of two.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint32_t integer() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 32);
  }

  /// Roughly normal, of the given power of two as unit.
  float number(float unit = 1.0F) {
    std::int32_t total = 0;
    for (int i = 0; i < 6; ++i) {
      total += static_cast<std::int32_t>(integer() >> 12) - (1 << 19);
    }
    return static_cast<float>(total) * (0x1p-19F * unit);
  }

  std::vector<float> numbers(std::size_t n, float unit = 1.0F) {
    std::vector<float> out(n);
    for (float& x : out) {
      x = number(unit);
    }
    return out;
  }

 private:
  std::uint64_t state_;
};

/// FNV-1a over the bytes of arrays.
class Hash {
 public:
  template <class T>
  void add(std::vector<T> const& values) {
    static_assert(std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>);
    auto const* bytes = reinterpret_cast<unsigned char const*>(values.data());
    for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) {
      value_ = (value_ ^ bytes[i]) * 0x100000001B3ULL;
    }
  }

  void print(char const* kernel) {
    std::printf("%-24s %016llx\n", kernel, static_cast<unsigned long long>(value_));
    value_ = start;
  }

 private:
  static constexpr std::uint64_t start = 0xCBF29CE484222325ULL;
  std::uint64_t value_ = start;
};

template <Element T>
std::vector<T> narrowed(std::vector<float> const& in) {
  std::vector<T> out(in.size());
  host::from_floats(in.data(), out.data(), in.size());
  return out;
}

std::size_t size(int n) { return static_cast<std::size_t>(n); }

void elementary(Hash& hash) {
  Random random(1);
  std::vector<float> bits(4096);
  for (float& x : bits) {
    x = std::bit_cast<float>(random.integer());
    x = x == x ? x : 0.0F;  // payloads of NaN are compared in the unit tests
  }
  hash.add(narrowed<Half>(bits));
  hash.add(narrowed<BFloat16>(bits));
  hash.print("from_floats");
  std::vector<float> wide(4096);
  host::to_floats(narrowed<Half>(bits).data(), wide.data(), wide.size());
  hash.add(wide);
  host::to_floats(narrowed<BFloat16>(bits).data(), wide.data(), wide.size());
  hash.add(wide);
  hash.print("to_floats");
  std::vector<float> results;
  for (int i = 0; i < 8192; i += 16) {
    std::vector<float> x = random.numbers(16, 16.0F);
    for (float& v : x) {
      v = v < 0 ? v : -v;
    }
    std::vector<float> y(16);
    host::store(y.data(), host::exp2(host::load(x.data())));
    results.insert(results.end(), y.begin(), y.end());
    results.push_back(host::exp2(x[3]));
    results.push_back(host::log2(-x[5] + 0x1p-20F));
  }
  hash.add(results);
  hash.print("exp2, log2");
  results.clear();
  for (int n = 8; n <= 264; n += 8) {
    auto const a = random.numbers(size(n));
    auto const b = random.numbers(size(n));
    results.push_back(host::dot(a.data(), b.data(), n));
    results.push_back(host::dot(a.data(), narrowed<Half>(b).data(), n));
    results.push_back(host::dot(a.data(), narrowed<BFloat16>(b).data(), n));
    results.push_back(host::sum_of_squares(a.data(), n));
  }
  hash.add(results);
  hash.print("dot");
}

struct State {
  std::vector<float> max, sum, out;
  host::OnlineSoftmax view;

  State(int heads, int dim)
      : max(size(heads)),
        sum(size(heads)),
        out(size(heads * dim)),
        view{heads, dim, max.data(), sum.data(), out.data()} {
    view.reset();
  }
};

template <Element T>
void attention(Hash& hash) {
  Random random(2);
  for (int const dim : {8, 40, 64, 72, 128, 176}) {
    for (int const heads : {1, 2, 3, 4, 7}) {
      int const rows = 150;
      auto const data = narrowed<T>(random.numbers(size(160 * 2 * dim)));
      auto const q = random.numbers(size(heads * dim), 0.5F);
      host::RowBlocks<T> blocks;
      blocks.base = reinterpret_cast<std::byte const*>(data.data());
      blocks.row_elements = dim;
      blocks.block_bytes = size(16 * 2 * dim) * sizeof(T);
      std::vector<std::uint32_t> slots(rows);
      std::iota(slots.rbegin(), slots.rend(), 0U);
      for (bool const scattered : {false, true}) {
        State state(heads, dim);
        std::vector<float> logits(size(heads * rows));
        host::attend(blocks, scattered ? slots.data() : nullptr, rows, q.data(), state.view,
                     logits.data(), rows);
        std::vector<float> lse(size(heads));
        std::vector<float> result(state.out.size());
        state.view.finish(result.data(), lse.data());
        hash.add(logits);
        hash.add(state.sum);
        hash.add(result);
        hash.add(lse);
      }
    }
  }
}

void prefill(Hash& hash) {
  Random random(3);
  for (int const dim : {24, 64, 128}) {
    int const heads = 3;
    int const queries = 11;
    auto const k = random.numbers(size(64 * dim));
    auto const v = random.numbers(size(64 * dim));
    auto const q = random.numbers(size(queries * heads * dim), 0.5F);
    std::vector<State> states;
    std::vector<host::OnlineSoftmax> views;
    states.reserve(size(queries));
    for (int i = 0; i < queries; ++i) {
      views.push_back(states.emplace_back(heads, dim).view);
    }
    host::attend_tile({k.data(), v.data(), 50, nullptr, 7}, q.data(), heads * dim, queries, 3,
                      views.data());
    host::attend_tile({k.data(), v.data(), 64, nullptr, 0}, q.data(), heads * dim, queries, 90,
                      views.data());
    for (auto const& state : states) {
      hash.add(state.max);
      hash.add(state.sum);
      hash.add(state.out);
    }
  }
  hash.print("attend_tile");
}

void masses(Hash& hash) {
  Random random(4);
  for (int const heads : {1, 3, 4, 9}) {
    for (int const n : {1, 15, 16, 333, 3000}) {
      auto logits = random.numbers(size(heads * n), 4.0F);
      std::vector<host::Mass> mass(size(n));
      std::vector<float> lse(size(heads));
      host::softmax_masses(logits.data(), n, heads, n, mass.data(), lse.data());
      hash.add(mass);
      hash.add(lse);
      host::LogHistogram histogram;
      histogram.add(mass.data(), nullptr, mass.size());
      hash.add(std::vector<std::uint64_t>(histogram.sums, histogram.sums + 256));
      hash.add(std::vector<std::uint32_t>(histogram.counts, histogram.counts + 256));
    }
  }
  hash.print("softmax_masses");
}

void mass_runs(Hash& hash) {
  Random random(8);
  for (int const heads : {1, 3, 9}) {
    int const n = 2000;
    auto logits = random.numbers(size(heads * n), 4.0F);
    std::vector<std::uint8_t> states(size(n));
    for (auto& state : states) {
      state = static_cast<std::uint8_t>(random.integer() % 2 * 2);
    }
    std::vector<host::Mass> mass(size(n));
    std::vector<host::LogitRun> runs;
    runs.push_back({logits.data(), n, 77, nullptr, mass.data()});
    runs.push_back({logits.data() + 77, n, n - 77, states.data(), mass.data() + 77});
    host::softmax_masses(runs, heads, nullptr);
    hash.add(mass);
    hash.add(logits);
    std::vector<std::uint32_t> thresholds;
    std::vector<std::uint32_t> list(mass.size());
    for (float const epsilon : {0.0F, 0.01F, 0.1F, 1.0F}) {
      thresholds.push_back(host::mass_threshold(runs, host::to_mass(epsilon), random.integer()));
      list.resize(mass.size());
      list.resize(
          size(host::list_at_least(mass.data(), states.data(), n, thresholds.back(), list.data())));
      hash.add(list);
    }
    hash.add(thresholds);
  }
  hash.print("mass runs, threshold");
}

void known_logits(Hash& hash) {
  Random random(9);
  int const heads = 3;
  int const rows = 150;
  for (int const dim : {40, 64}) {
    auto const data = random.numbers(size(160 * 2 * dim));
    auto const q = random.numbers(size(heads * dim), 0.5F);
    host::RowBlocks<float> blocks;
    blocks.base = reinterpret_cast<std::byte const*>(data.data());
    blocks.row_elements = dim;
    blocks.block_bytes = size(16 * 2 * dim) * sizeof(float);
    State state(heads, dim);
    std::vector<float> logits(size(heads * rows));
    host::block_logits(blocks, rows, q.data(), heads, dim, logits.data(), rows);
    hash.add(logits);
    host::attend_known(blocks, 20, rows - 20, logits.data() + 20, rows, state.view);
    host::weigh(logits.data(), rows, 100, state.view, logits.data());
    hash.add(logits);
    hash.add(state.max);
    hash.add(state.sum);
    hash.add(state.out);
  }
  hash.print("known logits");
}

template <class Digest>
void digest(Hash& hash, char const* name) {
  Random random(5);
  for (int const dim : {8, 24, 64, 72, 128, 264}) {
    auto keys = random.numbers(size(Digest::group_rows * dim));
    for (std::size_t i = 0; i < keys.size(); i += size(dim)) {
      keys[i] = 1.0F;  // a constant channel
    }
    std::vector<std::byte> group(Digest::bytes(dim));
    Digest::encode(keys.data(), dim, group.data());
    hash.add(group);
    for (int const heads : {1, 3, 4, 6}) {
      auto const q = random.numbers(size(heads * dim), 0.5F);
      std::vector<float> logits(size(heads * Digest::group_rows));
      host::digest_scan<Digest>({q.data(), heads, dim}, group, logits, Digest::group_rows);
      hash.add(logits);
    }
  }
  hash.print(name);
}

template <int Residual>
void residuals(Hash& hash) {
  Random random(8);
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    int const groups = 3;
    int const count = 53;
    std::vector<std::byte> pool(size(count + 15) * host::residual_bytes<Residual>(dim));
    host::CodeRows const rows{pool.data(), 16 * host::residual_bytes<Residual>(dim),
                              host::residual_bytes<Residual>(dim)};
    for (int const heads : {1, 3, 5}) {
      auto const q = random.numbers(size(heads * dim), 0.5F);
      using Digest = kvfreeze::NestedKeyCodes<1, 5>;
      int const units = Digest::units(dim);
      std::vector<std::int8_t> weights(
          size(groups * heads * host::NestedQueries::line(dim, units)));
      std::vector<host::FoldScale> scales(size(groups * heads));
      host::NestedQueries const folded{weights.data(), scales.data(), heads, dim, units};
      std::vector<std::uint32_t> group_of(size(count));
      for (int g = 0; g < groups; ++g) {
        auto keys = random.numbers(size(64 * dim), 2.0F);
        auto importance = random.numbers(size(dim), 1.0F);
        for (int c = 0; c < dim; ++c) {  // channels of unlike width and weight
          float const width = random.numbers(1, 1.0F).front();
          for (int row = 0; row < 64; ++row) {
            keys[size(row * dim + c)] *= width;
          }
          importance[size(c)] *= importance[size(c)];
        }
        std::vector<std::byte> group(Digest::bytes(dim));
        Digest::encode(keys.data(), importance.data(), dim, group.data());
        hash.add(group);
        Digest::fold({q.data(), heads, dim}, group.data(), folded, g);
        std::vector<float> screened(size(heads * 64));
        Digest::scan_folded(folded, g, group.data(), screened.data(), 64);
        hash.add(screened);
        for (int i = g; i < count; i += groups) {
          group_of[size(i)] = static_cast<std::uint32_t>(g);
          auto const key = random.numbers(size(dim), 2.0F);
          Digest::encode_residual<Residual>(key.data(), dim, group.data(),
                                            const_cast<std::byte*>(rows.row(i)));
        }
      }
      auto logits = random.numbers(size(heads * count));
      Digest::refine<Residual>(rows, count, group_of.data(), folded, logits.data(), count);
      hash.add(pool);
      hash.add(weights);
      for (host::FoldScale const& scale : scales) {
        hash.add(std::vector<float>{scale.unit, scale.base});
        hash.add(std::vector<std::int32_t>{scale.sum});
      }
      hash.add(logits);
    }
  }
}

template <int Bits>
void values(Hash& hash) {
  Random random(9);
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    int const count = 150;
    std::size_t const bytes = host::value_code_bytes<Bits>(dim);
    std::vector<std::byte> pool(size(160) * bytes);
    std::vector<BFloat16> scales(160);
    std::vector<float> decoded(size(dim));
    for (int i = 0; i < count; ++i) {
      auto const v = random.numbers(size(dim), i % 2 == 0 ? 1.0F : 0x1p-70F);
      std::byte* const row = pool.data() + size(i) * bytes;
      scales[size(i)] = host::encode_values<Bits>(v.data(), dim, row);
      host::decode_values<Bits>(row, scales[size(i)], dim, decoded.data());
      hash.add(decoded);
    }
    hash.add(pool);
    hash.add(scales);
    for (int const heads : {1, 3, 5}) {
      auto weights = random.numbers(size(heads * count));
      auto out = random.numbers(size(heads * dim));
      host::accumulate_values<Bits>({pool.data(), 16 * bytes, bytes},
                                    {reinterpret_cast<std::byte const*>(scales.data()), 32, 2},
                                    count, weights.data(), count, heads, dim, out.data());
      hash.add(weights);
      hash.add(out);
    }
    if constexpr (Bits == 4) {
      host::truncate_codes(pool.data(), dim, pool.data());
      hash.add(pool);
    }
  }
}

void rotations(Hash& hash) {
  Random random(10);
  for (int dim = 8; dim <= 256; dim += 8) {
    auto v = random.numbers(size(dim));
    host::rotate(v.data(), dim);
    hash.add(v);
  }
  hash.print("rotate");
}

/// What a cache decides and computes over a prompt and some tokens.
template <class Cache>
void run(Hash& hash, char const* name, typename Cache::scheduler_type const& scheduler) {
  Shape const shape{.layers = 1, .query_heads = 6, .kv_heads = 2, .head_dim = 40};
  Cache cache(shape, {.max_tokens = 400, .window = 8}, {}, scheduler);
  Sequence const sequence = cache.open();
  Random random(11);
  for (int length = 0; length < 280;) {
    int const tokens = length == 0 ? 170 : 1;
    auto const q = random.numbers(size(tokens * 240), 2.0F);
    auto const k = random.numbers(size(tokens * 80));
    auto const v = random.numbers(size(tokens * 80));
    std::vector<float> out(q.size());
    cache.attend(sequence, 0, q, k, v, out);
    length = cache.advance(sequence).length;
    hash.add(out);
    std::vector<Fidelity> fidelities(size(length));
    for (int lane = 0; lane < 2; ++lane) {
      cache.fidelities(sequence, 0, lane, fidelities);
      hash.add(std::vector<std::uint8_t>(
          reinterpret_cast<std::uint8_t const*>(fidelities.data()),
          reinterpret_cast<std::uint8_t const*>(fidelities.data() + fidelities.size())));
    }
  }
  hash.print(name);
}

template <Element T>
void entropies(Hash& hash) {
  Random random(6);
  std::vector<double> results;
  for (int const n : {1, 15, 17, 1000, 5000}) {
    for (float const unit : {0.25F, 4.0F, 1024.0F}) {
      auto const logits = narrowed<T>(random.numbers(size(n), unit));
      auto const e = host::entropy(std::span<T const>(logits));
      results.insert(results.end(), {e.log_sum_exp, e.entropy_nats, e.top_probability,
                                     static_cast<double>(e.top_index)});
    }
  }
  hash.add(results);
}

void selections(Hash& hash) {
  Random random(7);
  auto const scores = random.numbers(3001);
  std::vector<std::uint32_t> masses(scores.size());
  for (auto& mass : masses) {
    mass = random.integer() >> (random.integer() % 32);
  }
  std::vector<std::uint32_t> const offsets = {0, 0, 1, 18, 1000, 3001};
  std::vector<std::uint8_t> selected(scores.size());
  host::top_k(scores, offsets, 17, selected);
  hash.add(selected);
  host::top_p(masses, offsets, 0.9F, selected);
  hash.add(selected);
  std::vector<float> out(scores.size());
  host::compact<float>(selected, scores, out);
  hash.add(out);
  hash.print("top_k, top_p, compact");
}

}  // namespace

int main() {
  std::fprintf(stderr, "%s\n", host::isa_name);
  Hash hash;
  elementary(hash);
  attention<float>(hash);
  hash.print("attend, float");
  attention<Half>(hash);
  hash.print("attend, Half");
  attention<BFloat16>(hash);
  hash.print("attend, BFloat16");
  prefill(hash);
  masses(hash);
  mass_runs(hash);
  known_logits(hash);
  digest<KeyCodes<2>>(hash, "KeyCodes<2>");
  digest<KeyCodes<3>>(hash, "KeyCodes<3>");
  digest<KeyCodes<4>>(hash, "KeyCodes<4>");
  digest<KeyCodes<8>>(hash, "KeyCodes<8>");
  digest<KeyCodes<4, 128>>(hash, "KeyCodes<4, 128>");
  digest<BoxDigest<>>(hash, "BoxDigest");
  digest<CuboidDigest<>>(hash, "CuboidDigest");
  digest<MeanKeyDigest<>>(hash, "MeanKeyDigest");
  residuals<2>(hash);
  residuals<4>(hash);
  hash.print("add_residuals");
  values<2>(hash);
  values<4>(hash);
  values<8>(hash);
  hash.print("accumulate_values");
  entropies<float>(hash);
  entropies<Half>(hash);
  entropies<BFloat16>(hash);
  hash.print("entropy");
  selections(hash);
  rotations(hash);
  run<presets::KvFreeze<>>(hash, "KvFreeze", {.stay = 2, .every = 2, .dense = false});
  run<presets::UniformQuantised<4, float>>(hash, "UniformQuantised", {});
  run<presets::ExactRecall<BFloat16>>(hash, "ExactRecall", {.dense_rows = 0});
  return 0;
}
