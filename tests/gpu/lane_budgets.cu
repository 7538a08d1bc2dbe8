#include <kvfreeze/gpu/published_presets.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <gpu/capped.cuh>
#include <gpu/layouts.hpp>
#include <gpu/rows_twins.cuh>
#include <type_traits>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

// What is tested here and beside it, by its name; the others compose.
static_assert(
    std::is_same_v<gpu::presets::AdaKv<>,
                   Rows<Half, WindowMassScorer<>, LaneBudgetScheduler<HeadSplitShares>,
                        NeverTrigger, DiscardTier>> &&
    std::is_same_v<gpu::presets::PyramidKv<>,
                   Rows<Half, WindowMassScorer<>, LaneBudgetScheduler<PyramidShares>, NeverTrigger,
                        DiscardTier>> &&
    std::is_same_v<gpu::presets::EntropyOnline<>,
                   Rows<Half, WindowMassScorer<>, LaneBudgetScheduler<EntropyShares>, NeverTrigger,
                        DiscardTier>> &&
    std::is_same_v<gpu::presets::KeyDiff<>, Rows<Half, KeyDifferenceScorer<>, OverCapacityScheduler,
                                                 NeverTrigger, DiscardTier>> &&
    std::is_same_v<
        gpu::presets::Recalled<WindowMassScorer<KeyCodes<2>>>,
        Rows<Half, WindowMassScorer<KeyCodes<2>>, RecallBudgetScheduler<>, NeverTrigger>>);

template <class... Caches>
constexpr bool compose = ((sizeof(Caches) > 0) && ...);
static_assert(compose<gpu::presets::H2o<>, gpu::presets::Tova<>, gpu::presets::SnapKv<>,
                      gpu::presets::ArkvAsShipped<>, gpu::presets::KeyNorm<>, gpu::presets::LagKv<>,
                      gpu::presets::ExpectedAttention<>, gpu::presets::EntropyCalibrated<>,
                      gpu::presets::EntropyOracle<>, gpu::presets::PartialRecall<>>);

/// Steps of one sequence, some of which are forgotten, and some rows pinned; part of it comes in a
/// chunk.
template <class Twins>
std::size_t run(Twins& twins, int steps, unsigned seed) {
  std::size_t const sequence = twins.open(seed);
  for (int i = 0; i < steps; ++i) {
    twins.step({sequence});
    if (i == steps / 4) {
      twins.prefill(sequence, 45);
    }
    if (i == steps / 2) {
      twins.pin(sequence, {{20, 24}});
      twins.truncate(sequence, i + 35);
    }
  }
  return sequence;
}

/// Exact rows of a layer's lane.
template <class Twins>
int exact_rows(Twins& twins, std::size_t sequence, int layer, int lane) {
  std::vector<Fidelity> rows(
      static_cast<std::size_t>(twins.device().length(twins.handle(sequence))));
  twins.device().fidelities(twins.handle(sequence), layer, lane, rows, twins.stream());
  return static_cast<int>(std::count(rows.begin(), rows.end(), Fidelity::exact));
}

}  // namespace

TEST_CASE("Lower layers keep more rows, by averages of neighbouring scores", "[cache]") {
  LaneBudgetScheduler<PyramidShares> const scheduler{
      .shares = {3.0F}, .granules = 60, .shrink = 0.9F};
  WindowMassScorer<> const scorer{.steps = 16, .pooled = 5};
  auto twins = twins_of<Half, WindowMassScorer<>, DiscardTier>(small, limits_of(256, 2), scheduler,
                                                               NeverTrigger{}, scorer);
  run(twins, 70, 60);
  std::size_t const sequence = run(twins, 170, 61);
  CHECK(twins.rows(sequence).evicted > 0);
  CHECK(exact_rows(twins, sequence, 0, 0) > 2 * exact_rows(twins, sequence, 1, 0));
}

TEST_CASE("A table deals budgets to lanes on both sides", "[cache]") {
  LaneBudgetScheduler<TableShares<64>> scheduler{.fraction = 0.5F, .shrink = 0.8F};
  scheduler.shares = TableShares<64>::from(std::vector<float>{0.5F, 1.5F, 0.75F, 1.25F});
  auto twins = twins_of<BFloat16>(small, limits_of(256, 1), scheduler, calm(),
                                  WindowMassScorer<>{.steps = 20});
  std::size_t const sequence = run(twins, 150, 62);
  CHECK(exact_rows(twins, sequence, 0, 1) > 2 * exact_rows(twins, sequence, 0, 0));
  CHECK(exact_rows(twins, sequence, 1, 1) > exact_rows(twins, sequence, 1, 0));
}

TEST_CASE("A part of a budget is the current query's", "[cache]") {
  RecallBudgetScheduler<> const scheduler{.recalled = 0.4F, .granules = 100};
  WindowMassScorer<KeyCodes<2>> const scorer{.steps = 8, .pooled = 3};
  auto twins = twins_of<Half>(small, limits_of(256, 2), scheduler, impatient(), scorer);
  std::size_t const first = twins.open(63);
  std::size_t const second = twins.open(64);
  std::uint64_t thawed = 0;
  for (int i = 0; i < gpu::test::steps(110); ++i) {
    twins.step({first});
    twins.step({second, first});
    thawed += twins.device().report(twins.handle(first)).thawed_rows;
  }
  CHECK(twins.rows(first).frozen > 0);
  CHECK(thawed > 100);
}

TEST_CASE("Scores of mean and variance, averaged over neighbours, are the same on both sides",
          "[cache]") {
  MeanVarianceScorer<> const scorer{.gamma = 100.0F};
  auto twins = twins_of<float>(small, limits_of(256, 1), FixedBudgetScheduler{.fraction = 0.4F},
                               NeverTrigger{}, scorer);
  std::size_t const sequence = run(twins, gpu::test::steps(160), 28);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Lanes whose attention is spread get more on both sides", "[cache]") {
  LaneBudgetScheduler<EntropyShares> const scheduler{.granules = 50, .shrink = 0.8F};
  auto twins = twins_of<Half, WindowMassScorer<>, DiscardTier>(
      small, limits_of(256, 2), scheduler, NeverTrigger{}, WindowMassScorer<>{.steps = 16});
  run(twins, 70, 65);
  std::size_t const sequence = run(twins, gpu::test::steps(170), 66);
  CHECK(twins.rows(sequence).evicted > 0);
  // append, thaw, attention, notes; the mean of their entropies, and the slow clock
  check_launches(twins, sequence, 4, 4);
}

TEST_CASE("Recall tells the entropy of attention to granules that are away too", "[cache]") {
  RecallBudgetScheduler<EntropyShares> const scheduler{
      .shares = {0.5F, 2.0F}, .recalled = 0.6F, .fraction = 0.5F};
  auto twins = twins_of<HalfFours, InstantMassScorer<KeyCodes<2>>>(small, limits_of(256, 1),
                                                                   scheduler, impatient());
  std::size_t const sequence = run(twins, gpu::test::steps(180), 67);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Heads compete for their layer's budget on both sides", "[cache]") {
  LaneBudgetScheduler<HeadSplitShares> const scheduler{.granules = 60, .shrink = 0.9F};
  WindowMassScorer<> const scorer{.steps = 16, .pooled = 5};
  auto twins = twins_of<Half, WindowMassScorer<>, DiscardTier>(small, limits_of(256, 2), scheduler,
                                                               NeverTrigger{}, scorer);
  run(twins, 70, 68);
  std::size_t const sequence = run(twins, gpu::test::steps(170), 69);
  CHECK(twins.rows(sequence).evicted > 0);
  bool differ = false;
  for (int i = 0; i < 20; ++i) {
    twins.step({sequence});
    differ = differ || exact_rows(twins, sequence, 0, 0) != exact_rows(twins, sequence, 0, 1);
  }
  CHECK(differ);
}

TEST_CASE("Shares of heads and layers keep within a byte cap", "[budgets]") {
  using Split = Rows<Narrow<layout_of_t<Half>, 64>, WindowMassScorer<>,
                     LaneBudgetScheduler<HeadSplitShares>, NeverTrigger, DiscardTier>;
  hold_caps<Split>(320, 1, {0.0, 0.2}, LaneBudgetScheduler<HeadSplitShares>{.shrink = 0.9F},
                   NeverTrigger{}, WindowMassScorer<>{.steps = 16, .pooled = 5});
  using Pyramid = Rows<Narrow<layout_of_t<Half>, 64>, WindowMassScorer<>,
                       LaneBudgetScheduler<PyramidShares>, NeverTrigger, DiscardTier>;
  hold_caps<Pyramid>(320, 1, {0.2},
                     LaneBudgetScheduler<PyramidShares>{.shares = {3.0F}, .shrink = 0.9F},
                     NeverTrigger{}, WindowMassScorer<>{.steps = 16, .pooled = 5});
}
