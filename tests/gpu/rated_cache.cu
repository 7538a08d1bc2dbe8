#include <catch2/catch.hpp>

#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

}  // namespace

TEST_CASE("Keys that point away from the others are kept on both sides", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 60, .shrink = 0.8F};
  auto twins = twins_of<Half, KeyDifferenceScorer<>, DiscardTier>(small, limits_of(256, 2),
                                                                  scheduler, NeverTrigger{});
  decode_new(twins, 80, 29);
  std::size_t const sequence = decode_new(twins, gpu::test::steps(160), 30);
  CHECK(twins.rows(sequence).evicted > 0);
  twins.truncate(sequence, 70);  // the mean direction remembers what is gone
  for (int i = 0; i < 40; ++i) {
    twins.step({sequence});
  }
}

TEST_CASE("Values are rated against keys, and queries recall what was rated low", "[cache]") {
  RecallBudgetScheduler<PyramidShares> const scheduler{
      .shares = {2.0F}, .recalled = 0.5F, .fraction = 0.6F};
  auto twins = twins_of<BFloat16, ValueKeyRatioScorer<KeyCodes<2>>>(small, limits_of(256, 1),
                                                                    scheduler, impatient());
  std::size_t const sequence = decode_new(twins, gpu::test::steps(170), 31);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Attention is expected of the same rows on both sides", "[cache]") {
  Shape const odd{.layers = 1, .query_heads = 6, .kv_heads = 2, .head_dim = 48};
  OverCapacityScheduler const scheduler{.capacity = 50, .shrink = 0.9F};
  auto twins = twins_of<ByLayer<float>>(odd, limits_of(512, 1), scheduler, NeverTrigger{},
                                        ExpectedAttentionScorer<>{});
  std::size_t const sequence = decode_new(twins, 300, 32);  // the means' own window ends
  CHECK(twins.rows(sequence).frozen > 0);
  twins.truncate(sequence, 80);
  twins.thaw(sequence);
  for (int i = 0; i < 30; ++i) {
    twins.step({sequence});
  }
}

TEST_CASE("Chunks are ranked by the ranges of the next one on both sides", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 70, .shrink = 0.8F};
  auto twins = twins_of<Half, LagScorer<>, DiscardTier>(small, limits_of(256, 2), scheduler,
                                                        NeverTrigger{}, LagScorer<>{.rows = 14});
  decode_new(twins, 90, 33);
  std::size_t const sequence = decode_new(twins, gpu::test::steps(160), 34);
  CHECK(twins.rows(sequence).evicted > 0);
  twins.truncate(sequence, 85);  // chunks lack rows that are gone
  for (int i = 0; i < 40; ++i) {
    twins.step({sequence});
  }
}

TEST_CASE("Queries recall what was ranked low in its chunk", "[cache]") {
  RecallBudgetScheduler<> const scheduler{.recalled = 0.5F, .fraction = 0.5F};
  auto twins = twins_of<ByLayer<BFloat16>>(small, limits_of(256, 1), scheduler, impatient(),
                                           LagScorer<KeyCodes<2>>{.rows = 30});
  std::size_t const sequence = decode_new(twins, gpu::test::steps(170), 35);
  CHECK(twins.rows(sequence).frozen > 0);
}
