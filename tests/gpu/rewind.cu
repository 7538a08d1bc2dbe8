#include <kvfreeze/gpu/presets.cuh>

#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/ladder_twins.cuh>
#include <gpu/rewinds.cuh>
#include <gpu/rows_twins.cuh>
#include <optional>
#include <random>
#include <type_traits>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using DotScorer = MeanAbsDotScorer<KeyCodes<4>>;

static_assert(std::is_same_v<gpu::presets::AsrKfEgr<>,
                             Rows<Half, DotScorer, SublinearScheduler<>, EntropyLadderTrigger>>);
static_assert(std::is_same_v<gpu::presets::AsrKfEgrEager<>,
                             Rows<Half, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>,
                                  EntropyLadderTrigger>>);

}  // namespace

TEST_CASE("AsrKfEgr goes back on the device as on the host", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  DotScorer const scorer{.window = 8};
  auto twins = twins_of<Half>(small, limits_of(448, 3), scheduler, hasty(6), scorer);
  std::size_t const first = twins.open(1);
  std::size_t const second = twins.open(2);
  std::size_t const third = twins.open(3);
  std::mt19937 random(4);
  for (int i = 0; i < 50; ++i) {
    twins.step({first, second}, std::vector<float>(2 * 8, 1.0F));
  }
  live(twins, second, 3, 0, 5);
  live(twins, third, 2, 2, 6);  // its engine is late
  for (int i = 0; i < 20; ++i) {
    twins.step({third, first});
  }
  CHECK(twins.rows(first).asleep > 0);
}

TEST_CASE("AsrKfEgr's timers are cut, pinned and reset on both sides", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  scheduler.period_steps = 2;
  auto twins =
      twins_of<Half>(small, limits_of(256, 1), scheduler, hasty(5), DotScorer{.window = 9});
  std::size_t const sequence = twins.open(7);
  std::mt19937 random(8);
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 45; ++i) {
      twins.step({sequence}, logits_of(random, false));
    }
    int const length = twins.device().length(twins.handle(sequence));
    twins.truncate(sequence, length - 3 - 6 * round);  // fewer than the window holds, then more
    twins.pin(sequence, {{10, 20 + round}, {60, 64}});
    for (int i = 0; i < 3; ++i) {
      twins.step({sequence}, logits_of(random, false));
    }
    if (round % 2 == 1) {
      twins.thaw(sequence);
    }
  }
  CHECK(twins.rows(sequence).asleep > 0);
}

TEST_CASE("AsrKfEgrEager goes back, by the trigger's own settings", "[cache]") {
  Shape const one{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 64};
  SublinearScheduler<Thaw::eager> scheduler;
  scheduler.softness = 0.25F;
  auto twins = twins_of<Half>(one, limits_of(256, 1), scheduler, EntropyLadderTrigger{},
                              MeanAbsDotScorer<>{.window = 6});
  live(twins, twins.open(9), 1, 1, 10);
}

TEST_CASE("The ladder goes back on the device as on the host", "[cache]") {
  auto twins = ladder_twins(small, limits_of(320, 2), ladder(), hasty(6));
  live(twins, twins.open(15), 2, 0, 16);
  std::size_t const late = twins.open(17);
  live(twins, late, 1, 3, 18);
  for (int i = 0; i < 40; ++i) {
    twins.step({late});
  }
  CHECK(twins.rows(late).compact > 0);
}

TEST_CASE("A turn of the queries asks for rows on both sides", "[cache]") {
  WaterLevelScheduler<> scheduler;
  scheduler.missed_mass = 0.3F;
  scheduler.stay = 2;
  scheduler.dense_rows = 0;
  DriftOrMissed const trigger{QueryDriftTrigger{.cosine = 0.35F}, impatient()};
  auto twins =
      twins_of<Half, InstantMassScorer<KeyCodes<4>>>(small, limits_of(256, 2), scheduler, trigger);
  std::size_t const first = twins.open(11);
  std::size_t const second = twins.open(12);
  int recoveries = 0;
  int const all = gpu::test::steps(150);
  for (int i = 0; i < all; ++i) {
    recoveries += twins.step({first}) ? 1 : 0;
    recoveries += i % 2 == 0 && twins.step({second, first}) ? 1 : 0;
    if (twins.device().length(twins.handle(first)) > 250) {
      break;
    }
  }
  CHECK(recoveries > 4);
}

TEST_CASE("A step that may go back is a fixed number of launches, and can be captured", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  auto twins = twins_of<Half>(small, limits_of(256, 2), scheduler, hasty(6), DotScorer{});
  std::size_t const first = twins.open(13);
  std::size_t const second = twins.open(14);
  for (int i = 0; i < 80; ++i) {
    twins.step({first});
  }
  for (int i = 0; i < 30; ++i) {
    twins.replay({second, first});
  }
  // Of the slow clock: retention, report, recovery, and two that cut and settle.
  check_launches(twins, first, 4, 5);
}
