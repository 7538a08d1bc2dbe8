#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/keep_all_scheduler.hpp>
#include <kvfreeze/scheduler/mass_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/spared_layers_scheduler.hpp>
#include <kvfreeze/scheduler/water_level_scheduler.hpp>

#include <catch2/catch.hpp>

using namespace kvfreeze;
using Kind = Selection::Kind;

TEST_CASE("the mass ladder misses its epsilon and keeps what was wanted", "[scheduler]") {
  MassLadderScheduler<> const scheduler{.missed_mass = 0.05F, .stay = 3, .dense_rows = 0};
  LaneFacts const lane{.water_level = 0.5F};
  REQUIRE(scheduler.recall(lane).kind == Kind::mass);
  REQUIRE(scheduler.recall(lane).value == 0.05F);
  REQUIRE(scheduler.retain(lane).kind == Kind::recent);
  REQUIRE(scheduler.retain(lane).count == 3);
  REQUIRE(scheduler.sleep(65535) == 0);
  REQUIRE(MassLadderScheduler<true>{.softness = 2.0F}.sleep(16) == 2);
  REQUIRE(detail::base_level(scheduler) == 0.05F);
}

TEST_CASE("the water level rises above the own epsilon, never below", "[scheduler]") {
  WaterLevelScheduler<> const scheduler{.missed_mass = 0.05F, .dense_rows = 0};
  REQUIRE(scheduler.recall({.water_level = 0.0F}).value == 0.05F);
  REQUIRE(scheduler.recall({.water_level = 0.3F}).value == 0.3F);
  REQUIRE(detail::base_level(scheduler) == 0.05F);
  REQUIRE(detail::has_sleep<WaterLevelScheduler<true>>());
  REQUIRE_FALSE(detail::is_timed<WaterLevelScheduler<true>>());
}

TEST_CASE("short lanes keep all unless the cap binds", "[scheduler]") {
  WaterLevelScheduler<> const scheduler{.dense_rows = 64};
  LaneFacts lane{.page_tokens = 4, .granules = 15};
  REQUIRE(scheduler.recall(lane).kind == Kind::all);
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  lane.granules = 16;
  REQUIRE(scheduler.recall(lane).kind == Kind::mass);
  REQUIRE(scheduler.retain(lane).kind == Kind::recent);
  lane.granules = 15;
  lane.allowed = 15;
  REQUIRE(scheduler.recall(lane).kind == Kind::mass);
  REQUIRE(MassLadderScheduler<>{.dense_rows = 64}.recall(lane).kind == Kind::mass);
}

TEST_CASE("a fixed budget is a share or a number, within what is allowed", "[scheduler]") {
  LaneFacts lane{.granules = 1001};
  REQUIRE(FixedBudgetScheduler{.fraction = 0.25F}.retain(lane).count == 250);
  REQUIRE(FixedBudgetScheduler{.granules = 64}.retain(lane).count == 64);
  REQUIRE(FixedBudgetScheduler{.granules = 64}.recall(lane).count == 64);
  lane.allowed = 40;
  REQUIRE(FixedBudgetScheduler{.fraction = 1.0F}.retain(lane).count == 40);
  REQUIRE(FixedBudgetScheduler{.granules = 64}.recall(lane).count == 40);
  REQUIRE(FixedBudgetScheduler{}.retain(lane).kind == Kind::count);
}

TEST_CASE("spared layers keep all that the cap lets them", "[scheduler]") {
  SparedLayersScheduler const scheduler{.spared = 2, .granules = 64};
  LaneFacts lane{.layer = 1, .granules = 1000};
  REQUIRE(scheduler.recall(lane).kind == Kind::all);
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  REQUIRE(scheduler.share(lane) > 100.0F);
  lane.allowed = 900;
  REQUIRE(scheduler.recall(lane).count == 900);
  lane.layer = 2;
  REQUIRE(scheduler.recall(lane).count == 64);
  REQUIRE(scheduler.retain(lane).count == 64);
  REQUIRE(scheduler.share(lane) == 1.0F);
  lane.granules = 60;
  REQUIRE(scheduler.recall(lane).kind == Kind::all);
}

TEST_CASE("nothing goes until the lane is over its capacity", "[scheduler]") {
  OverCapacityScheduler const scheduler{.capacity = 100, .shrink = 0.8F};
  LaneFacts lane{.granules = 100, .exact = 100, .protected_granules = 36};
  REQUIRE(scheduler.recall(lane).kind == Kind::none);
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  lane.exact = 101;
  REQUIRE(scheduler.retain(lane).kind == Kind::count);
  REQUIRE(scheduler.retain(lane).count == 80);
  lane.protected_granules = 90;  // protected ones are within the count and stay
  REQUIRE(scheduler.retain(lane).count == 90);
  lane.protected_granules = 0;
  lane.allowed = 50;
  REQUIRE(scheduler.retain(lane).count == 40);
}

TEST_CASE("without a capacity of its own the byte cap decides", "[scheduler]") {
  OverCapacityScheduler const scheduler;
  LaneFacts lane{.granules = 1 << 20, .exact = 1 << 20};
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  lane.allowed = 1000;
  REQUIRE(scheduler.retain(lane).count == 1000);
}

TEST_CASE("keep all keeps all", "[scheduler]") {
  REQUIRE(KeepAllScheduler{}.recall({}).kind == Kind::all);
  REQUIRE(KeepAllScheduler{}.retain({}).kind == Kind::all);
  REQUIRE_FALSE(detail::has_sleep<KeepAllScheduler>());
}

TEST_CASE("schedulers reject fields out of range", "[scheduler]") {
  REQUIRE_THROWS_AS(MassLadderScheduler<>{.missed_mass = -0.1F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(MassLadderScheduler<>{.stay = 0}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(MassLadderScheduler<true>{.softness = -1.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(WaterLevelScheduler<>{.missed_mass = 2.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(WaterLevelScheduler<true>{.softness = 1e6F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(MassLadderScheduler<>{.softness = 2.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(WaterLevelScheduler<>{.softness = 2.0F}.validate(), InvalidArgument);
  REQUIRE_NOTHROW(WaterLevelScheduler<true>{.softness = 2.0F}.validate());
  REQUIRE_FALSE(detail::has_sleep<WaterLevelScheduler<>>());
  REQUIRE_THROWS_AS(FixedBudgetScheduler{.fraction = 1.5F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(FixedBudgetScheduler{.granules = -1}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(OverCapacityScheduler{.capacity = -1}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(OverCapacityScheduler{.shrink = 0.0F}.validate(), InvalidArgument);
}
