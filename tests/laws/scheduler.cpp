#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/head_bits_scheduler.hpp>
#include <kvfreeze/scheduler/keep_all_scheduler.hpp>
#include <kvfreeze/scheduler/lane_budget_scheduler.hpp>
#include <kvfreeze/scheduler/mass_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/recall_budget_scheduler.hpp>
#include <kvfreeze/scheduler/spared_layers_scheduler.hpp>
#include <kvfreeze/scheduler/sublinear_scheduler.hpp>
#include <kvfreeze/scheduler/water_level_scheduler.hpp>

#include "../support/archetypes.hpp"
#include "scheduler_laws.hpp"

#include <tuple>

using namespace kvfreeze;

using Schedulers =
    std::tuple<SublinearScheduler<Thaw::lazy>, SublinearScheduler<Thaw::eager>,
               MassLadderScheduler<>, MassLadderScheduler<true>, WaterLevelScheduler<>,
               WaterLevelScheduler<true>, FixedBudgetScheduler, SparedLayersScheduler,
               OverCapacityScheduler, KeepAllScheduler, LaneBudgetScheduler<>,
               LaneBudgetScheduler<PyramidShares>, LaneBudgetScheduler<EntropyShares>,
               LaneBudgetScheduler<TableShares<>>, LaneBudgetScheduler<HeadSplitShares>,
               RecallBudgetScheduler<>, RankLadderScheduler<false>, RankLadderScheduler<true>,
               HeadBitsScheduler<>, archetypes::MinimalScheduler, archetypes::WholeScheduler>;

TEMPLATE_LIST_TEST_CASE("scheduler laws", "[laws][scheduler]", Schedulers) {
  laws::scheduler(TestType{});
}

TEST_CASE("scheduler laws away from the defaults", "[laws][scheduler]") {
  laws::scheduler(SublinearScheduler<>{.softness = 0.3F, .threshold = 1.5F, .forgive = 0.0F});
  laws::scheduler(SublinearScheduler<>{.softness = 1.7F, .forgive = 1.0F, .period_steps = 16});
  laws::scheduler(MassLadderScheduler<true>{.missed_mass = 0.5F, .softness = 1.0F});
  laws::scheduler(WaterLevelScheduler<true>{.missed_mass = 0.0F, .softness = 0.5F});
  laws::scheduler(FixedBudgetScheduler{.granules = 7});
  laws::scheduler(SparedLayersScheduler{.spared = 0, .granules = 7});
  laws::scheduler(OverCapacityScheduler{.capacity = 100, .shrink = 0.5F});
  laws::scheduler(LaneBudgetScheduler<PyramidShares>{.granules = 100, .shrink = 0.5F});
  laws::scheduler(RecallBudgetScheduler<>{.recalled = 0.0F, .fraction = 0.5F});
  laws::scheduler(RankLadderScheduler<true>{.kept = 0.1F, .exact = 1.0F});
}
