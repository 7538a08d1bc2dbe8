#include <catch2/catch.hpp>

#include <gpu/capped.cuh>
#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using DotScorer = MeanAbsDotScorer<KeyCodes<4>>;

}  // namespace

TEST_CASE("Rows sleep, wake and are asked on the device as on the host", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  DotScorer const scorer{.window = 8};
  auto twins = twins_of<Half>(small, limits_of(256, 3), scheduler, impatient(), scorer);
  std::size_t const first = twins.open(14);
  for (int i = 0; i < gpu::test::steps(110); ++i) {
    twins.step({first});
  }
  CHECK(twins.rows(first).asleep > 0);
  std::size_t const second = twins.open(15);
  std::size_t const third = twins.open(16);
  int recoveries = 0;
  bool const brief = kvfreeze_test::short_tests();
  for (int i = 0; i < (brief ? 80 : 100); ++i) {
    recoveries += twins.step({second, first}) ? 1 : 0;
    recoveries += twins.step({third}) ? 1 : 0;
  }
  CHECK(recoveries >= (brief ? 2 : 6));
  CHECK(twins.rows(second).asleep > 0);
}

TEST_CASE("Detections are counted at the steps of a period, by what is remembered of queries",
          "[cache]") {
  Shape const seven{.layers = 1, .query_heads = 7, .kv_heads = 1, .head_dim = 56};
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.75F;
  scheduler.quantile = 0.5F;
  scheduler.history = 24;
  scheduler.forgive = 0.25F;
  scheduler.period_steps = 3;
  auto twins = twins_of<BFloat16>(seven, limits_of(256, 1), scheduler, impatient(),
                                  Remembering<DotScorer>{});
  std::size_t const sequence = twins.open(17);
  for (int i = 0; i < gpu::test::steps(220); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() > twins.rows(sequence).exact);
}

TEST_CASE("Eager rows come back when they wake, without digests", "[cache]") {
  Shape const alone{.layers = 2, .query_heads = 1, .kv_heads = 1, .head_dim = 64};
  SublinearScheduler<Thaw::eager> scheduler;
  scheduler.softness = 0.25F;
  auto twins = twins_of<float>(alone, limits_of(256, 1), scheduler, NeverTrigger{},
                               MeanAbsDotScorer<>{.window = 4});
  std::size_t const sequence = twins.open(18);
  for (int i = 0; i < gpu::test::steps(160); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).asleep > 0);
}

TEST_CASE("Masses put rows to sleep too", "[cache]") {
  WaterLevelScheduler<true> scheduler;
  scheduler.missed_mass = 0.3F;
  scheduler.stay = 2;
  scheduler.softness = 1.0F;
  scheduler.dense_rows = 0;
  auto twins = twins_of<Half, InstantMassScorer<KeyCodes<4>>>(small, limits_of(256, 1), scheduler,
                                                              impatient());
  std::size_t const sequence = twins.open(19);
  for (int i = 0; i < gpu::test::steps(180); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).asleep > 0);
}

TEST_CASE("A step with timers is a fixed number of launches, and can be captured", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  auto twins = twins_of<Half>(small, limits_of(256, 2), scheduler, impatient(), DotScorer{});
  std::size_t const first = twins.open(20);
  std::size_t const second = twins.open(21);
  for (int i = 0; i < 90; ++i) {
    twins.step({first});
  }
  for (int i = 0; i < (kvfreeze_test::short_tests() ? 30 : 60); ++i) {
    twins.replay({second, first});
  }
  auto const counted = twins.count({first});
  if (!counted) {
    WARN("nobody counts launches here");
    return;
  }
  // append, recall, attention, window
  constexpr unsigned per_layer = 4;
  CHECK(counted->kernel_launches == 1 + per_layer * small.layers + 3);
  CHECK(counted->host_syncs == 0);
  CHECK(counted->mallocs + counted->async_mallocs + counted->host_allocs == 0);
  CHECK(counted->copies_h2d + counted->copies_d2h == 0);
}

TEST_CASE("Sleepers keep within a byte cap", "[budgets]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  using Timed = Rows<Narrow<layout_of_t<Half>, 64>, DotScorer, SublinearScheduler<Thaw::lazy>,
                     MissedMassTrigger>;
  hold_caps<Timed>(320, 64, {0.0, 0.2}, scheduler, impatient(), DotScorer{.window = 8});
}

TEST_CASE("Eager rows come back as a transfer budget lets them", "[budgets]") {
  SublinearScheduler<Thaw::eager> scheduler;
  scheduler.softness = 0.5F;
  using Eager = Rows<Narrow<layout_of_t<float>, 64>, MeanAbsDotScorer<>,
                     SublinearScheduler<Thaw::eager>, NeverTrigger>;
  hold_transfers<Eager>(1, false, scheduler, NeverTrigger{}, MeanAbsDotScorer<>{.window = 8});
}
