// A cache around a made-up model: what an engine does for each token.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <vector>

// [quick start]
#include <kvfreeze/kvfreeze.hpp>

/// The engine's part: what its layers compute for one token.
void project(int token, int layer, std::span<float> q, std::span<float> k, std::span<float> v);

int main() {
  kvfreeze::KvFreezeCache cache(
      kvfreeze::Shape{.layers = 30, .query_heads = 9, .kv_heads = 3, .head_dim = 64},
      kvfreeze::Limits{.max_tokens = 8192, .resident_bytes = 48 << 20});

  std::vector<float> q(9 * 64), k(3 * 64), v(3 * 64), out(9 * 64), logits;
  auto sequence = cache.open();
  for (int token = 0; token < 300; ++token) {
    for (int layer = 0; layer < 30; ++layer) {
      project(token, layer, q, k, v);
      cache.attend(sequence, layer, q, k, v, out);  // append + recall + attention + evidence
    }
    kvfreeze::StepReport report = cache.advance(sequence, logits);
    if (report.length % 100 == 0) {
      std::printf("%d tokens: %llu rows exact, %llu compact, %llu frozen, %zu of %zu bytes\n",
                  report.length, static_cast<unsigned long long>(report.rows.exact),
                  static_cast<unsigned long long>(report.rows.compact),
                  static_cast<unsigned long long>(report.rows.frozen), report.ledger.resident(),
                  report.full_bytes);
    }
  }
}

// [/quick start]

void project(int token, int layer, std::span<float> q, std::span<float> k, std::span<float> v) {
  auto const wave = [&](std::span<float> x, float speed, float size) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = size * std::sin(speed * static_cast<float>(token) +
                             static_cast<float>(i * static_cast<std::size_t>(layer + 1)));
    }
  };
  wave(q, 0.01F, 2.0F);
  wave(k, 0.01F, 2.0F);
  wave(v, 0.02F, 1.0F);
}
