#include <catch2/catch.hpp>

#include <array>
#include <cmath>
#include <gpu/ladder_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

using Flat = gpu::KvFreezeCache<
    Layout<BFloat16, 1, Grouping::kv_head, CompactRows<CompactLevel<4, 4>>, 64, 4>,
    InstantMassScorer<KeyCodes<4>>, LadderScheduler<>, NeverTrigger>;

}  // namespace

TEST_CASE("The ladder decides on the device as on the host", "[cache]") {
  auto twins = ladder_twins(small, limits_of(512, 1), ladder(), NeverTrigger{});
  std::size_t const sequence = twins.open(1);
  for (int i = 0; i < gpu::test::steps(200); ++i) {
    twins.step({sequence});
  }
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.exact > 0);
  CHECK(rows.compact > 0);
  CHECK(rows.frozen > 0);
}

TEST_CASE("Sequences of different lengths share steps, come and go", "[cache]") {
  auto scheduler = ladder();
  scheduler.stay = 1;
  scheduler.every = 1;
  scheduler.none = 0.05F;
  scheduler.first = 0.1F;
  auto twins = ladder_twins(small, limits_of(256, 3), scheduler, NeverTrigger{});
  come_and_go(twins);
}

TEST_CASE("A trigger that asks for recovery gets it on both sides", "[cache]") {
  auto scheduler = ladder();
  scheduler.none = 0.3F;
  scheduler.first = 0.4F;
  scheduler.second = 0.5F;
  MissedMassTrigger trigger;
  trigger.limit = 0.05F;
  trigger.cooldown = 8;
  auto twins = ladder_twins(small, limits_of(256, 1), scheduler, trigger);
  std::size_t const sequence = twins.open(5);
  bool recovered = false;
  for (int i = 0; i < gpu::test::steps(140); ++i) {
    recovered = twins.step({sequence}) || recovered;
  }
  CHECK(recovered);
}

TEST_CASE("Lanes that the ladder does not pay for stay whole", "[cache]") {
  auto twins = ladder_twins(small, limits_of(256, 1), LadderScheduler<>{}, NeverTrigger{});
  std::size_t const sequence = twins.open(6);
  for (int i = 0; i < gpu::test::steps(150); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
  // K and V of every row in every lane: 2 layers, 2 lanes, rows of 64 + 64 elements.
  auto const rows = static_cast<std::size_t>(gpu::test::steps(150));
  CHECK(twins.touched_bytes(sequence) == 2 * 2 * rows * 128 * 2);
}

TEST_CASE("One compact level, flat codes, other elements", "[cache]") {
  Shape const shape{.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 64};
  auto scheduler = ladder();
  scheduler.first = 0.4F;
  scheduler.second = 1.0F;
  Limits const limits = limits_of(256, 1);
  Twins<Flat> twins(gpu::test::make_flat_twin<BFloat16>(shape, limits, scheduler, NeverTrigger{}),
                    shape, limits, scheduler, NeverTrigger{});
  std::size_t const sequence = twins.open(7);
  for (int i = 0; i < gpu::test::steps(200); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).compact > 0);
}

TEST_CASE("Heads of other sizes and numbers", "[cache]") {
  struct Heads {
    int number;
    int dim;
  };

  for (auto const [number, dim] : {Heads{2, 24}, Heads{3, 96}, Heads{9, 256}}) {
    CAPTURE(number, dim);
    Shape const shape{.layers = 1, .query_heads = number, .kv_heads = 1, .head_dim = dim};
    auto twins = ladder_twins(shape, limits_of(256, 1), ladder());
    std::size_t const sequence = twins.open(10);
    for (int i = 0; i < gpu::test::steps(130); ++i) {
      twins.step({sequence});
    }
    CHECK(twins.rows(sequence).compact > 0);
  }
}

TEST_CASE("More lanes than blocks that a small device holds", "[cache]") {
  Shape const shape{.layers = 1, .query_heads = 24, .kv_heads = 24, .head_dim = 64};
  auto twins = ladder_twins(shape, limits_of(192, 1), ladder(), NeverTrigger{});
  std::size_t const sequence = twins.open(9);
  for (int i = 0; i < gpu::test::steps(130); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A step is a fixed number of launches, and nothing else", "[cache]") {
  auto twins = ladder_twins(small, limits_of(256, 1), ladder(), NeverTrigger{});
  std::size_t const sequence = twins.open(8);
  for (int i = 0; i < gpu::test::steps(120); ++i) {
    twins.step({sequence});
  }
  check_launches(twins, sequence, 3);  // append, ranking, attention
}

TEST_CASE("A captured step serves later ones, and other sequences", "[cache]") {
  auto twins = ladder_twins(small, limits_of(256, 3), ladder(), NeverTrigger{});
  replay_by_turns(twins);
}

TEST_CASE("Bad input is refused, and loses nothing", "[cache]") {
  gpu::test::Stream const stream;
  using Cache = Ladder<Half, NeverTrigger>;
  CHECK_THROWS_AS(Cache(small, Limits{.max_tokens = 64, .resident_bytes = 1 << 19}), CapacityError);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 3, .kv_heads = 2, .head_dim = 64}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 65, .kv_heads = 1, .head_dim = 64}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 60}),
                  InvalidArgument);
  CHECK_THROWS_AS(Cache(Shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 264}),
                  InvalidArgument);
  CHECK_THROWS_AS(Flat(Shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 72}),
                  InvalidArgument);  // it has kernels for 64
  CHECK_THROWS_AS(Flat(Shape{.layers = 1, .query_heads = 5, .kv_heads = 1, .head_dim = 64}),
                  InvalidArgument);  // and for four query heads
  CHECK_THROWS_AS(Cache(small, limits_of(64, 1), LadderScheduler<>{.first = 0.4F}),
                  InvalidArgument);
  Limits limits = limits_of(2, 1);
  limits.sinks = 1;
  Cache cache(small, limits);
  CHECK_THROWS_AS(cache.begin_async({}, stream), InvalidArgument);
  CHECK_THROWS_AS(cache.length(Sequence{}), UnknownSequence);
  Sequence const sequence = cache.open(stream);
  CHECK_THROWS_AS(static_cast<void>(cache.open(stream)), CapacityError);
  std::array const twice{sequence, sequence};
  CHECK_THROWS_AS(cache.begin_async(twice, stream), InvalidArgument);
  std::array const batch{sequence};
  auto const q = gpu::test::filled<float>(6 * 64, 1.0F);
  auto const k = gpu::test::filled<float>(2 * 64, 1.0F);
  auto const wrong = gpu::test::filled<float>(2 * 64, std::nanf(""));
  gpu::DeviceArray<float> const out(6 * 64);
  CHECK_THROWS_AS((cache.attend_async<float>(0, q, k, k, out, stream)), InvalidArgument);
  cache.begin_async(batch, stream);
  CHECK_THROWS_AS((cache.attend_async<float>(2, q, k, k, out, stream)), InvalidArgument);
  CHECK_THROWS_AS((cache.attend_async<float>(0, k, k, k, out, stream)), InvalidArgument);
  cache.attend_async<float>(0, q, k, k, out, stream);
  CHECK_THROWS_AS((cache.attend_async<float>(0, q, k, k, out, stream)), InvalidArgument);  // twice
  CHECK_THROWS_AS(cache.advance_async(stream), InvalidArgument);  // layer 1 is missing
  cache.attend_async<float>(1, q, k, wrong, out, stream);
  cache.advance_async(stream);
  stream.wait();
  CHECK(cache.length(sequence) == 1);
  CHECK_THROWS_AS(cache.advance_async(stream), InvalidArgument);  // twice
  CHECK(cache.length(sequence) == 1);
  CHECK_THROWS_AS(cache.begin_async(batch, stream), InvalidArgument);  // of what was not finite
  cache.begin_async(batch, stream);
  cache.attend_async<float>(0, q, k, k, out, stream);
  cache.attend_async<float>(1, q, k, k, out, stream);
  cache.advance_async(stream);
  stream.wait();
  CHECK(cache.report(sequence).step == 2);
  CHECK_THROWS_AS(cache.begin_async(batch, stream), CapacityError);
  cache.close(sequence, stream);
  CHECK_THROWS_AS(cache.length(sequence), UnknownSequence);
}
