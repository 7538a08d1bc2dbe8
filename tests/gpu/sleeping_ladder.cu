#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/layouts.hpp>
#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

using Scorer = InstantMassScorer<NestedKeyCodes<1, 5>>;

/// One that is on from the first row, and whose rows soon sleep.
LadderScheduler<true> sleepy() {
  LadderScheduler<true> scheduler;
  scheduler.none = 0.1F;
  scheduler.first = 0.2F;
  scheduler.softness = 0.5F;
  scheduler.dense = false;
  return scheduler;
}

}  // namespace

TEST_CASE("Rows of the ladder sleep and wake on both sides", "[cache]") {
  auto twins = twins_of<HalfLadder, Scorer>(small, limits_of(320, 2), sleepy(), impatient());
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 4, 40, 45);
  CHECK(twins.rows(second).asleep > 0);
  CHECK(twins.rows(second).compact > 0);
  read_prompt(twins, second);
  twins.compare_rows(second);
}

TEST_CASE("A lane that keeps all wakes all", "[cache]") {
  LadderScheduler<true> scheduler = sleepy();
  scheduler.dense = true;
  auto twins = twins_of<HalfLadder, Scorer>(small, limits_of(512, 1), scheduler, calm());
  std::size_t const sequence = decode_new(twins, gpu::test::steps(150), 51);
  read_prompt(twins, sequence);
  decode(twins, sequence, gpu::test::steps(150));
}

TEST_CASE("Sleepers of the ladder keep within a byte cap", "[budgets]") {
  using Cache = Rows<Narrow<HalfLadder, 64>, Scorer, LadderScheduler<true>, MissedMassTrigger>;
  hold_caps<Cache>(320, 64, {0.1}, sleepy(), impatient());
}
