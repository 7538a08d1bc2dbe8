// Granules and lanes by layer of the ladder: rows that have one verdict, on both sides.

#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/uniform_scheduler.hpp>

#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/ladders.hpp>
#include <gpu/layouts.hpp>
#include <gpu/rewinds.cuh>
#include <gpu/rows_twins.cuh>
#include <support/short_tests.hpp>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

/// One that is on from the first row; larger granules have more mass.
LadderScheduler<> flat() {
  LadderScheduler<> scheduler;
  scheduler.none = 0.5F;
  scheduler.first = 0.8F;
  scheduler.second = 1.0F;
  scheduler.dense = false;
  return scheduler;
}

}  // namespace

TEST_CASE("Granules of the ladder are cut, pinned and brought back on both sides", "[cache]") {
  auto twins = twins_of<LadderFours, ScreenedMass>(small, limits_of(320, 2), sleepy(), hasty(6));
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 4, 39, 45);
  CHECK(twins.rows(second).compact > 0);
  CHECK(twins.rows(second).asleep > 0);
  read_prompt(twins, second);
  twins.compare_rows(second);
}

TEST_CASE("Granules of the ladder sleep, and sequences go back into the middle of one", "[cache]") {
  bool const brief = kvfreeze_test::short_tests();
  auto twins = twins_of<LadderFours, ScreenedMass>(small, limits_of(448, 1), sleepy(), hasty(6));
  std::size_t const sequence = decode_new(twins, brief ? 110 : 150, 43);
  CHECK(twins.rows(sequence).asleep > 0);
  if (!brief) {
    live(twins, sequence, 3, 0, 44);
  }
  live(twins, sequence, 1, 5, 45);
}

TEST_CASE("Pages of a layer have one level of codes on both sides", "[cache]") {
  auto twins = twins_of<FlatLayerPages, FlatMass>(small, limits_of(320, 2), flat(), calm());
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 4, 43, 47);
  CHECK(twins.rows(second).compact + twins.rows(second).frozen > 0);
  read_prompt(twins, second);
  twins.compare_rows(second);
}

TEST_CASE("A captured step of the ladder's granules serves later ones", "[cache]") {
  auto twins = twins_of<FlatLayerPages, FlatMass>(small, limits_of(256, 3), flat(), impatient());
  if (kvfreeze_test::short_tests()) {
    decode_new(twins, 100, 46);
  } else {
    replay_by_turns(twins);
  }
  check_launches(twins, 0, 3);
}

TEST_CASE("Lanes of granules that the ladder does not pay for stay whole", "[cache]") {
  auto scheduler = flat();
  scheduler.dense = true;
  auto twins = twins_of<FlatLayerPages, FlatMass>(small, limits_of(256, 1), scheduler, impatient());
  std::size_t const sequence = decode_new(twins, gpu::test::steps(150), 6);
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
}

TEST_CASE("So many granules of a layer are exact, so many coded, the others frozen", "[cache]") {
  RankLadderScheduler<true, SequenceShares> const scheduler{
      .kept = 0.5F, .exact = 0.4F, .stay = 2, .every = 2};
  auto twins =
      twins_of<RankLayerFours, ScreenedMass>(small, limits_of(320, 2), scheduler, NeverTrigger{});
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 3, 37, 42);
  CHECK(twins.rows(second).compact > 0);
  CHECK(twins.rows(second).frozen > 0);
  read_prompt(twins, second);
}

TEST_CASE("Pages of a layer are coded whole", "[cache]") {
  auto twins = twins_of<FlatLayerPages, FlatMass>(small, limits_of(320, 2), UniformScheduler{},
                                                  NeverTrigger{});
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 3, 42, 46);
  CHECK(twins.rows(second).compact > 0);
  read_prompt(twins, second);
  twins.compare_rows(second);
}

TEST_CASE("Granules of the ladder keep within a byte cap, and stay whole", "[budgets]") {
  using Fours =
      Rows<Narrow<LadderFours, 64>, ScreenedMass, LadderScheduler<true>, EntropyLadderTrigger>;
  hold_caps<Fours>(320, 64, {0.1, 0.0}, sleepy());
  if (kvfreeze_test::short_tests()) {
    return;
  }
  using Pages = Rows<Narrow<FlatLayerPages, 64>, FlatMass, LadderScheduler<>, MissedMassTrigger>;
  hold_caps<Pages>(320, 64, {0.1, 0.0}, flat(), impatient());
  using Uniform = Rows<Narrow<FlatLayerPages, 64>, FlatMass, UniformScheduler, NeverTrigger>;
  hold_caps<Uniform>(320, 64, {0.0});
}

TEST_CASE("Granules of the ladder move as a transfer budget lets them", "[budgets]") {
  using Fours =
      Rows<Narrow<LadderFours, 64>, ScreenedMass, LadderScheduler<true>, EntropyLadderTrigger>;
  hold_transfers<Fours>(64, false, sleepy());
  hold_transfers<Fours>(64, true, sleepy());
}
