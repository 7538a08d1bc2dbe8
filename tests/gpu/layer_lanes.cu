#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using DotScorer = MeanAbsDotScorer<KeyCodes<4>>;
using MassScorer = InstantMassScorer<KeyCodes<4>>;
using NestedScorer = InstantMassScorer<NestedKeyCodes<1, 5>>;

}  // namespace

TEST_CASE("KV heads of a layer share a lane on both sides", "[cache]") {
  auto twins =
      twins_of<ByLayer<Half>, MassScorer>(small, limits_of(256, 3), busy(0.4F), impatient());
  REQUIRE(twins.device().lanes_per_layer() == 1);
  come_and_go(twins);
}

TEST_CASE("Lanes of layers are cut, pinned and reset on both sides", "[cache]") {
  auto twins =
      twins_of<ByLayer<Half>, MassScorer>(small, limits_of(256, 2), busy(0.4F), impatient());
  std::size_t const second = cut_pin_and_reset(twins, 3, 45, 50);
  CHECK(twins.rows(second).frozen > 0);
  // append, scan, logits of the tail, 3 of masses, marks and lists, thaw,
  // attention
  check_launches(twins, second, 3);
}

TEST_CASE("Digests of each KV head weigh its own channels", "[cache]") {
  Shape const three{.layers = 1, .query_heads = 6, .kv_heads = 3, .head_dim = 64};
  auto twins = twins_of<ByLayer<float>, NestedScorer>(
      three, limits_of(256, 1), FixedBudgetScheduler{.fraction = 0.4F}, NeverTrigger{});
  std::size_t const sequence = twins.open(33);
  decode(twins, sequence, gpu::test::steps(180));
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Sums of |q.k| of all heads, and sleep", "[cache]") {
  // The queries of the latter's heads are more than a block stages.
  Shape const many{.layers = 1, .query_heads = 36, .kv_heads = 2, .head_dim = 64};
  Shape const shape = GENERATE_COPY(small, many);
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  auto twins = twins_of<ByLayer<Half>>(shape, limits_of(256, 1), scheduler, impatient(),
                                       DotScorer{.window = 8});
  std::size_t const sequence = twins.open(34);
  decode(twins, sequence, gpu::test::steps(150));
  CHECK(twins.rows(sequence).asleep > 0);
  twins.truncate(sequence, 90);
  decode(twins, sequence, 30);
}

TEST_CASE("H2O with a lane for each layer", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 50, .shrink = 0.8F};
  auto twins = twins_of<ByLayer<BFloat16>, CumulativeMassScorer<>, DiscardTier>(
      small, limits_of(256, 1), scheduler, NeverTrigger{});
  std::size_t const sequence = twins.open(35);
  decode(twins, sequence, gpu::test::steps(150));
  CHECK(twins.rows(sequence).evicted > 0);
}

TEST_CASE("Mean norms of the KV heads' keys", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 40, .shrink = 0.75F};
  auto twins = twins_of<ByLayer<Half>>(small, limits_of(128, 1), scheduler, NeverTrigger{},
                                       KeyNormScorer<>{});
  std::size_t const sequence = twins.open(36);
  decode(twins, sequence, 90);
  CHECK(twins.rows(sequence).frozen > 0);
  twins.truncate(sequence, 60);
  decode(twins, sequence, 15);
  twins.thaw(sequence);
  decode(twins, sequence, 10);
}
