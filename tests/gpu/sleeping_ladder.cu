#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/ladders.hpp>
#include <gpu/layouts.hpp>
#include <gpu/rewinds.cuh>
#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

}  // namespace

TEST_CASE("Rows of the ladder sleep and wake on both sides", "[cache]") {
  auto twins = twins_of<HalfLadder, ScreenedMass>(small, limits_of(320, 2), sleepy(), impatient());
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 4, 40, 45);
  CHECK(twins.rows(second).asleep > 0);
  CHECK(twins.rows(second).compact > 0);
  read_prompt(twins, second);
  twins.compare_rows(second);
}

TEST_CASE("A lane that keeps all wakes all", "[cache]") {
  LadderScheduler<true> scheduler = sleepy();
  scheduler.dense = true;
  auto twins = twins_of<HalfLadder, ScreenedMass>(small, limits_of(512, 1), scheduler, calm());
  std::size_t const sequence = decode_new(twins, gpu::test::steps(150), 51);
  read_prompt(twins, sequence);
  decode(twins, sequence, gpu::test::steps(150));
}

TEST_CASE("Counters go back with a sequence of the ladder", "[cache]") {
  auto twins = twins_of<HalfLadder, ScreenedMass>(small, limits_of(448, 1), sleepy(), hasty(6));
  std::size_t const sequence = decode_new(twins, 150, 43);
  CHECK(twins.rows(sequence).asleep > 0);
  live(twins, sequence, kvfreeze_test::short_tests() ? 1 : 3, 0, 44);
  live(twins, sequence, 1, 5, 45);
}

TEST_CASE("Sleepers of the ladder keep within a byte cap", "[budgets]") {
  using Cache =
      Rows<Narrow<HalfLadder, 64>, ScreenedMass, LadderScheduler<true>, MissedMassTrigger>;
  hold_caps<Cache>(320, 64, {0.1}, sleepy(), impatient());
}
