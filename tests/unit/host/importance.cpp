#include <kvfreeze/host/importance.hpp>
#include <kvfreeze/kvfreeze.hpp>

#include "../../support/checked_cache.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

using namespace kvfreeze;

namespace {

constexpr Shape shape{.layers = 2, .query_heads = 6, .kv_heads = 2, .head_dim = 16};
constexpr int group = 3;  // query heads of a KV head
constexpr std::size_t row = 6 * 16;

using Cache = presets::KvFreeze<>;

/// Sums of squares of a chunk's queries under one KV head, token by token, head by head.
void add(std::vector<float>& sums, std::vector<float> const& q, int kv_head) {
  for (std::size_t first = 0; first < q.size(); first += row) {
    for (int h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (std::size_t d = 0; d < sums.size(); ++d) {
        float const x = q[first + static_cast<std::size_t>(h) * sums.size() + d];
        sums[d] = std::fma(x, x, sums[d]);
      }
    }
  }
}

std::vector<float> noted(Cache const& cache, Sequence sequence, int layer, int kv_head) {
  auto const lane = static_cast<std::uint32_t>(layer * shape.kv_heads + kv_head);
  float const* const sums = cache.memory().lane(sequence.index, lane).importance;
  return {sums, sums + shape.head_dim};
}

}  // namespace

TEST_CASE("A lane sums its queries' squares by channel", "[cache][importance]") {
  Cache cache(shape, {.max_tokens = 512});
  auto const sequence = cache.open();
  kvfreeze_test::InputStream stream(shape, 3);
  std::vector<std::vector<float>> expected(4, std::vector<float>(16));
  for (int const tokens : {1, 70, 1, 1}) {  // chunks and single tokens alike
    for (int layer = 0; layer < shape.layers; ++layer) {
      auto input = stream.next(tokens);
      cache.attend(sequence, layer, input.q, input.k, input.v, input.out);
      for (int head = 0; head < shape.kv_heads; ++head) {
        add(expected[static_cast<std::size_t>(2 * layer + head)], input.q, head);
      }
    }
    cache.advance(sequence);
  }
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int head = 0; head < shape.kv_heads; ++head) {
      CHECK(noted(cache, sequence, layer, head) ==
            expected[static_cast<std::size_t>(2 * layer + head)]);
    }
  }
}

TEST_CASE("A repeated call of a step notes its queries once", "[cache][importance]") {
  Cache cache(shape, {.max_tokens = 512});
  auto const sequence = cache.open();
  kvfreeze_test::InputStream stream(shape, 4);
  auto input = stream.next(1);
  cache.attend(sequence, 0, input.q, input.k, input.v, input.out);
  auto const once = noted(cache, sequence, 0, 1);
  cache.attend(sequence, 0, input.q, input.k, input.v, input.out);
  CHECK(noted(cache, sequence, 0, 1) == once);

  cache.append(sequence, 1, input.k, input.v);
  cache.recall(sequence, 1, input.q);
  CHECK(noted(cache, sequence, 1, 1) == once);
  cache.recall(sequence, 1, input.q);
  CHECK(noted(cache, sequence, 1, 1) == once);
}

TEST_CASE("A sequence that is opened again knows no queries", "[cache][importance]") {
  Cache cache(shape, {.max_tokens = 512, .max_sequences = 1});
  auto sequence = cache.open();
  kvfreeze_test::InputStream stream(shape, 5);
  auto input = stream.next(1);
  cache.attend(sequence, 0, input.q, input.k, input.v, input.out);
  CHECK(host::is_known(noted(cache, sequence, 0, 0).data(), 16));
  cache.close(sequence);
  sequence = cache.open();
  CHECK(!host::is_known(noted(cache, sequence, 0, 0).data(), 16));
}

TEST_CASE("A first chunk's groups are coded for the chunk's own queries", "[cache][importance]") {
  Cache cache(shape, {.max_tokens = 512});
  auto const sequence = cache.open();
  kvfreeze_test::InputStream stream(shape, 6);
  auto input = stream.next(64);
  for (std::size_t i = 0; i < input.q.size(); ++i) {  // they look at the last quad alone
    input.q[i] = i % 16 >= 12 ? input.q[i] : 0.0F;
  }
  cache.attend(sequence, 0, input.q, input.k, input.v, input.out);
  using Digest = NestedKeyCodes<1, 5>;
  auto const codes = Digest::codes(cache.memory().lane(sequence.index, 0).digest(0, 0), 16);
  CHECK(host::planes_of(codes.quarters, 3) == Digest::units(16));
  for (int quad = 0; quad < 3; ++quad) {
    CHECK(host::planes_of(codes.quarters, quad) == 0);
  }
}
