#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/capped.cuh>
#include <gpu/rows_twins.cuh>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using MassScorer = InstantMassScorer<KeyCodes<4>>;

}  // namespace

TEST_CASE("Rows are recalled on the device as on the host", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(512, 1), busy(), calm());
  std::size_t const sequence = twins.open(1);
  for (int i = 0; i < gpu::test::steps(200); ++i) {
    twins.step({sequence});
  }
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.exact > 0);
  CHECK(rows.frozen > 100);
}

TEST_CASE("Recoveries force the same rows on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 1), busy(), impatient());
  std::size_t const sequence = twins.open(5);
  int recoveries = 0;
  for (int i = 0; i < gpu::test::steps(160); ++i) {
    recoveries += twins.step({sequence}) ? 1 : 0;
  }
  CHECK(recoveries >= 3);  // soft, window and full
}

TEST_CASE("Lanes of exact and frozen rows share steps, come and go", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 3), busy(), impatient());
  come_and_go(twins);
}

TEST_CASE("A batch of fewer lanes has more blocks for each", "[cache]") {
  Shape const many{.layers = 1, .query_heads = 24, .kv_heads = 24, .head_dim = 8};
  auto twins = twins_of<Half, MassScorer>(many, limits_of(96, 6), busy(), calm());
  std::vector<std::size_t> batch;
  for (unsigned seed = 41; seed < 46; ++seed) {  // one less than there may be
    batch.push_back(twins.open(seed));
  }
  for (int i = 0; i < 80; ++i) {
    twins.step(i < 75 ? std::vector<std::size_t>{batch.front()} : batch);
  }
  CHECK(twins.rows(batch.front()).frozen > 0);
}

TEST_CASE("Groups of one and of four query heads, other elements", "[cache]") {
  Shape const single{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 128};
  auto wide =
      twins_of<BFloat16, MassScorer, HostTier, 0>(single, limits_of(256, 1), busy(), impatient());
  Shape const four{.layers = 2, .query_heads = 4, .kv_heads = 1, .head_dim = 64};
  auto full = twins_of<float, MassScorer>(four, limits_of(256, 1), busy(), calm());
  std::size_t const a = wide.open(3);
  std::size_t const b = full.open(4);
  for (int i = 0; i < gpu::test::steps(180); ++i) {
    wide.step({a});
    full.step({b});
  }
  CHECK(full.rows(b).frozen > 0);
}

TEST_CASE("Short lanes keep all, until they are long", "[cache]") {
  auto scheduler = busy();
  scheduler.dense_rows = 150;
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 1), scheduler, calm());
  std::size_t const sequence = twins.open(6);
  for (int i = 0; i < 149; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
  for (int i = 0; i < 51; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A budget of the highest masses is met on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 2),
                                          FixedBudgetScheduler{.fraction = 0.5F}, impatient());
  std::size_t const first = twins.open(7);
  std::size_t const second = twins.open(8);
  for (int i = 0; i < gpu::test::steps(130); ++i) {
    twins.step({first});
    twins.step({second, first});
    if (twins.rows(first).total() >= 250 * 4) {
      break;
    }
  }
  CHECK(twins.rows(first).frozen > 0);
}

TEST_CASE("Rows are forgotten, pinned and brought back at once on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 2), busy(), impatient());
  std::size_t const second = cut_pin_and_reset(twins, 4, 40, 45);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("A prompt in chunks is recalled on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 2), busy(), impatient());
  std::size_t const first = decode_new(twins, 20, 33);
  read_prompt(twins, first);
  std::size_t const second = twins.open(34);
  read_prompt(twins, second);
  for (int i = 0; i < 15; ++i) {
    twins.step({second, first});
  }
  twins.compare_rows(second);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("Nothing ever freezes in a plain cache", "[cache]") {
  auto twins =
      twins_of<Half, RecencyScorer>(small, limits_of(128, 1), KeepAllScheduler{}, NeverTrigger{});
  std::size_t const sequence = twins.open(9);
  for (int i = 0; i < 100; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
}

TEST_CASE("Beyond a capacity the oldest rows go", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 60, .shrink = 0.75F};
  auto twins = twins_of<Half, RecencyScorer>(small, limits_of(256, 1), scheduler, NeverTrigger{});
  std::size_t const sequence = twins.open(10);
  for (int i = 0; i < gpu::test::steps(150); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).exact <= 4U * 60U);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A step of recall is a fixed number of launches, and nothing else", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 1), busy(), calm());
  std::size_t const sequence = twins.open(8);
  for (int i = 0; i < gpu::test::steps(120); ++i) {
    twins.step({sequence});
  }
  // append, recall, attention
  check_launches(twins, sequence, 3);
}

TEST_CASE("A captured step of recall serves later ones, and other sequences", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 3), busy(), impatient());
  replay_by_turns(twins);
}

using Capped =
    Rows<Narrow<layout_of_t<Half>, 64>, MassScorer, WaterLevelScheduler<>, MissedMassTrigger>;

TEST_CASE("Recall keeps within a byte cap", "[budgets]") {
  hold_caps<Capped>(320, 64, {0.0, 0.25}, busy(), impatient(), MassScorer{});
}

TEST_CASE("The oldest rows go where a byte cap asks for it", "[budgets]") {
  using Oldest =
      Rows<Narrow<layout_of_t<Half>, 64>, RecencyScorer, OverCapacityScheduler, NeverTrigger>;
  hold_caps<Oldest>(256, 1, {0.1}, OverCapacityScheduler{}, NeverTrigger{}, RecencyScorer{});
}

TEST_CASE("A cap with room for all rows decides as none does", "[budgets]") {
  Limits const limits = limits_of(256, 1);
  Limits wide = limits;
  wide.resident_bytes = std::size_t{1} << 28;
  Twins<Capped> twins(make_rows_twin<Half, MassScorer, HostTier>(small, limits, busy(), calm(), {}),
                      small, wide, busy(), calm());
  std::size_t const sequence = decode_new(twins, 100, 35);
  read_prompt(twins, sequence);
  CHECK(twins.rows(sequence).frozen > 0);
  CHECK(twins.device().report(twins.handle(sequence)).water_level == busy().missed_mass);
  check_launches(twins, sequence, 3, 4);  // and the budgets
}

TEST_CASE("A water level meets the cap, the same whoever else is there", "[budgets]") {
  Limits limits = capped_limits(384, 2);
  WaterLevelScheduler<> const scheduler = busy(0.01F);
  limits.resident_bytes = least_cap<Capped>(limits, scheduler);
  Capped alone(small, limits, scheduler);
  Capped shared(small, limits, scheduler);
  Driver<Capped> first(alone, 5);
  Driver<Capped> second(shared, 5);
  Driver<Capped> other(shared, 9);
  float level = 0.0F;
  for (int chunk = 0; chunk < 3; ++chunk) {
    first.prefill(60);
    second.prefill(60);
  }
  for (int i = 0; i < (kvfreeze_test::short_tests() ? 30 : 80); ++i) {
    Driver<Capped>::step({&first});
    if (i % 3 == 0) {
      Driver<Capped>::step({&second});
      Driver<Capped>::step({&other});
    } else {
      Driver<Capped>::step({&other, &second});
    }
    level = std::max(level, first.report().water_level);
    if (i % 10 == 9) {
      REQUIRE(first.fidelities() == second.fidelities());
    }
  }
  CHECK(level > 0.01F);
  first.check(64);
  other.check(64);
  CHECK_THROWS_AS(Driver<Capped>(shared, 1), CapacityError);
}

TEST_CASE("A transfer budget bounds what a step of recall moves", "[budgets]") {
  hold_transfers<Capped>(64, false, busy());
  hold_transfers<Capped>(64, true, busy());
}

TEST_CASE("Caps that recall cannot keep are refused with the least", "[budgets]") {
  Limits limits = capped_limits(256, 2);
  std::size_t const least = least_cap<Capped>(limits, busy());
  limits.resident_bytes = least - 1;
  CHECK_THROWS_AS(Capped(small, limits, busy()), CapacityError);
  limits.resident_bytes = least;
  Capped cache(small, limits, busy());
  gpu::test::Stream const stream;
  Sequence const sequence = cache.open(stream);
  CHECK_THROWS_AS(cache.begin_prefill_async(sequence, 65, stream), InvalidArgument);
  Driver<Capped> driver(cache, 3);
  for (int i = 0; i < 4; ++i) {
    driver.prefill(64);
  }
  CHECK_THROWS_AS(driver.thaw(), CapacityError);
  driver.check(64);
}
