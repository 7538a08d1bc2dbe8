#include <catch2/catch.hpp>

#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

}  // namespace

TEST_CASE("Nested digests weigh channels on the device too", "[cache]") {
  MassLadderScheduler<> scheduler;
  scheduler.missed_mass = 0.3F;
  scheduler.stay = 3;
  scheduler.dense_rows = 0;
  auto twins = twins_of<Half, InstantMassScorer<NestedKeyCodes<1, 5>>>(small, limits_of(256, 1),
                                                                       scheduler, impatient());
  std::size_t const sequence = decode_new(twins, 200, 22);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Averages of masses are the same on both sides", "[cache]") {
  EmaMassScorer<KeyCodes<4>> const scorer{.decay = 0.8F};
  auto twins = twins_of<Half>(small, limits_of(256, 2), FixedBudgetScheduler{.fraction = 0.4F},
                              impatient(), scorer);
  decode_new(twins, 90, 23);
  std::size_t const sequence = decode_new(twins, 180, 24);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Sums of the masses that attention saw are the same on both sides", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 50, .shrink = 0.8F};
  auto twins = twins_of<BFloat16>(small, limits_of(256, 1), scheduler, NeverTrigger{},
                                  CumulativeMassScorer<>{});
  std::size_t const sequence = decode_new(twins, 180, 25);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Windows of masses go on while rows sleep", "[cache]") {
  Shape const four{.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 40};
  MassLadderScheduler<true> scheduler;
  scheduler.missed_mass = 0.4F;
  scheduler.stay = 2;
  scheduler.softness = 0.5F;
  scheduler.dense_rows = 0;
  WindowMassScorer<KeyCodes<2>> const scorer{.steps = 10};
  auto twins = twins_of<float>(four, limits_of(256, 1), scheduler, impatient(), scorer);
  std::size_t const sequence = decode_new(twins, 200, 26);
  CHECK(twins.rows(sequence).asleep > 0);
}

TEST_CASE("Keys of small norms are kept on both sides, as scores remember them", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 40, .shrink = 0.75F};
  auto twins = twins_of<Half>(small, limits_of(128, 1), scheduler, NeverTrigger{},
                              Remembering<KeyNormScorer<>>{});
  std::size_t const sequence = decode_new(twins, 100, 27);
  CHECK(twins.rows(sequence).frozen > 0);
  twins.truncate(sequence, 60);  // the norms of what comes back are known again
  for (int i = 0; i < 20; ++i) {
    twins.step({sequence});
  }
  twins.thaw(sequence);
  for (int i = 0; i < 20; ++i) {
    twins.step({sequence});
  }
}
