#include <catch2/catch.hpp>

#include <gpu/rows_twins.cuh>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

/// Steps of one sequence, some of which are forgotten.
template <class Twins>
std::size_t run(Twins& twins, int steps, unsigned seed) {
  std::size_t const sequence = twins.open(seed);
  for (int i = 0; i < steps; ++i) {
    twins.step({sequence});
    if (i == steps / 2) {
      twins.truncate(sequence, i - 10);
    }
  }
  return sequence;
}

}  // namespace

TEST_CASE("An oracle that reads all keys recalls the same rows on both sides", "[cache]") {
  RecallBudgetScheduler<TableShares<64>> scheduler{.recalled = 1.0F, .fraction = 0.5F};
  scheduler.shares = TableShares<64>::from(std::vector<float>{0.75F, 1.25F, 0.5F, 1.5F});
  auto twins = twins_of<Half, InstantMassScorer<ExactKeys>, InPlaceTier>(small, limits_of(256, 1),
                                                                         scheduler, NeverTrigger{});
  std::size_t const sequence = run(twins, gpu::test::steps(160), 70);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A fifth of the channels recalls the same rows on both sides", "[cache]") {
  auto twins = twins_of<BFloat16, InstantMassScorer<PartialKeys<20>>>(
      small, limits_of(256, 1), FixedBudgetScheduler{.fraction = 0.4F}, impatient());
  std::size_t const sequence = run(twins, gpu::test::steps(180), 71);
  CHECK(twins.rows(sequence).frozen > 0);
}
