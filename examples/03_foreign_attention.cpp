// The cache beside an attention kernel of the engine's own, which sees the exact rows.
#include <kvfreeze/kvfreeze.hpp>

#include "foreign_attention.hpp"

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

int main() {
  constexpr int dim = 64;
  constexpr int heads = 4;  // query heads
  constexpr int kv_heads = 2;
  kvfreeze::presets::ExactRecall<float> cache(
      {.layers = 1, .query_heads = heads, .kv_heads = kv_heads, .head_dim = dim},
      {.max_tokens = 2048});
  auto const sequence = cache.open();

  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> q(heads * dim), k(kv_heads * dim), v(kv_heads * dim), out(heads * dim);
  std::vector<float> lse(heads), lane_k(2048 * dim), lane_v(2048 * dim);
  std::vector<std::int32_t> positions(2048);
  kvfreeze::StepReport report;
  for (int token = 0; token < 1200; ++token) {
    for (auto* x : {&q, &k, &v}) {
      std::generate(x->begin(), x->end(), [&] { return 2.0F * normal(random); });
    }
    // [foreign attention]
    cache.append(sequence, 0, k, v);
    cache.recall(sequence, 0, q);  // what this query needs is here now
    for (int lane = 0; lane < kv_heads; ++lane) {
      int const rows = cache.gather(sequence, 0, lane, lane_k, lane_v, positions);
      for (int h = 2 * lane; h < 2 * lane + 2; ++h) {
        lse[static_cast<std::size_t>(h)] = foreign_attention(
            q.data() + h * dim, lane_k.data(), lane_v.data(), rows, dim, out.data() + h * dim);
      }
    }
    cache.observe(sequence, 0, q, lse);
    report = cache.advance(sequence);
    // [/foreign attention]
  }
  std::printf("%d tokens, attention saw %llu of %llu rows, %.2f %% of the mass missed\n",
              report.length, static_cast<unsigned long long>(report.rows.exact),
              static_cast<unsigned long long>(report.rows.total()),
              100.0 * static_cast<double>(report.missed_mass));
}
