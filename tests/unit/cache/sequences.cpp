#include <kvfreeze/kvfreeze.hpp>

#include "../../support/checked_cache.hpp"

#include <catch2/catch.hpp>

#include <memory>

using namespace kvfreeze;

namespace {

constexpr Shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};

using Cache = presets::ExactRecall<>;

Limits tight_limits() {
  Limits limits;
  limits.max_tokens = 400;
  limits.max_sequences = 3;
  limits.window = 8;
  limits.resident_bytes = 1;
  try {
    static_cast<void>(Cache(shape, limits));
  } catch (CapacityError const& error) {
    limits.resident_bytes = error.needed();
  }
  return limits;
}

}  // namespace

TEST_CASE("a sequence that found no room goes on where it stood when another one is closed",
          "[cache][sequences]") {
  Limits limits = tight_limits();
  limits.resident_bytes += limits.resident_bytes / 3;
  Cache cache(shape, limits);
  kvfreeze_test::CheckedSequence<Cache> first(cache, 1);
  kvfreeze_test::CheckedSequence<Cache> second(cache, 2);
  bool full = false;
  kvfreeze_test::InputStream stream(shape, 3);
  Sequence const third = cache.open();
  std::vector<kvfreeze_test::LayerInput> step;
  while (!full) {
    step = {stream.next(1), stream.next(1)};
    try {
      for (int layer = 0; layer < shape.layers; ++layer) {
        auto& in = step[static_cast<std::size_t>(layer)];
        cache.attend(third, layer, in.q, in.k, in.v, in.out);
      }
      static_cast<void>(cache.advance(third));
    } catch (CapacityError const& error) {
      REQUIRE_THAT(error.what(), Catch::Contains("Limits::resident_bytes leaves"));
      full = true;
    }
    REQUIRE(cache.length(third) < 300);
    REQUIRE(cache.ledger().resident() <= cache.limits().resident_bytes);
  }
  int const length = cache.length(third);
  first.close();
  second.close();
  for (int layer = 0; layer < shape.layers; ++layer) {
    auto& in = step[static_cast<std::size_t>(layer)];
    cache.attend(third, layer, in.q, in.k, in.v, in.out);
  }
  REQUIRE(cache.advance(third).length == length + 1);
}

TEST_CASE("opening makes the others give way at once", "[cache][sequences]") {
  Limits limits = tight_limits();
  limits.resident_bytes *= 3;
  Cache cache(shape, limits, {}, {.dense_rows = 0});
  kvfreeze_test::CheckedSequence<Cache> first(cache, 1);
  first.attend(200);
  for (int i = 0; i < 20; ++i) {
    first.attend(1);
  }
  kvfreeze_test::CheckedSequence<Cache> second(cache, 2);
  REQUIRE(cache.ledger().resident() <= limits.resident_bytes);
  second.attend(200);
  first.attend(1);
  second.attend(1);
  first.check();
}
