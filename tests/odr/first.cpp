#include "all_headers.hpp"

#include <array>

std::uint64_t first() {
  kvfreeze::KvFreezeCache cache(
      kvfreeze::Shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16},
      kvfreeze::Limits{.max_tokens = 64});
  auto const sequence = cache.open();
  std::array<float, 32> const q{};
  std::array<float, 16> const k{};
  std::array<float, 32> out{};
  cache.attend(sequence, 0, q, k, k, out);
  return cache.advance(sequence).rows.total();
}
