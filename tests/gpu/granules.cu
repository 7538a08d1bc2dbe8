#include <kvfreeze/gpu/published_presets.cuh>

#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/foreign_attention.cuh>
#include <gpu/layouts.hpp>
#include <gpu/rewinds.cuh>
#include <gpu/rows_twins.cuh>
#include <type_traits>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

static_assert(
    std::is_same_v<gpu::presets::ArkVale<>, Rows<HalfPages, InstantMassScorer<CuboidDigest<16>>,
                                                 SparedLayersScheduler, NeverTrigger>>);
static_assert(
    std::is_same_v<gpu::presets::Quest<>, Rows<HalfPages, InstantMassScorer<BoxDigest<16>>,
                                               SparedLayersScheduler, NeverTrigger, InPlaceTier>>);
static_assert(std::is_same_v<gpu::presets::PagedEviction<>,
                             Rows<HalfPages, ValueKeyRatioScorer<>, OverCapacityScheduler,
                                  NeverTrigger, DiscardTier>>);

}  // namespace

TEST_CASE("Granules of four rows are recalled, cut, pinned and brought back on both sides",
          "[cache]") {
  auto twins = twins_of<HalfFours, InstantMassScorer<KeyCodes<4>>>(small, limits_of(256, 2), busy(),
                                                                   impatient());
  std::size_t const second = cut_pin_and_reset(twins, 4, 37, 41);
  read_prompt(twins, second);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("Pages of a layer come back by their cuboids, as ArkVale has it", "[cache]") {
  auto twins = twins_of<FloatLayerPages, InstantMassScorer<CuboidDigest<16>>>(
      small, limits_of(256, 2), SparedLayersScheduler{.spared = 1, .fraction = 0.5F},
      NeverTrigger{});
  std::size_t const second = cut_pin_and_reset(twins, 3, 42, 46);
  read_prompt(twins, second);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("Pages are attended by their boxes in place, as Quest has it", "[cache]") {
  auto twins = twins_of<BFloatPages, InstantMassScorer<BoxDigest<16>>, InPlaceTier>(
      small, limits_of(256, 2), SparedLayersScheduler{.spared = 1, .granules = 4}, NeverTrigger{});
  std::size_t const second = cut_pin_and_reset(twins, 3, 42, 46);
  read_prompt(twins, second);
  CHECK(twins.rows(second).frozen > 0);
  CHECK(twins.device().report(twins.handle(second)).moved_in_bytes == 0);
}

TEST_CASE("Granules that few queries looked at are gone", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 24, .shrink = 0.75F};
  auto twins = twins_of<HalfFours, CumulativeMassScorer<>, DiscardTier>(small, limits_of(256, 1),
                                                                        scheduler, NeverTrigger{});
  std::size_t const sequence = decode_new(twins, 50, 41);
  read_prompt(twins, sequence);
  decode(twins, sequence, 23);
  CHECK(twins.rows(sequence).evicted > 0);
  for (int const length : {149, 144, 141, 132}) {
    if (length == 141) {
      CHECK_THROWS_AS(twins.device().truncate_async(twins.handle(sequence), length, twins.stream()),
                      InvalidArgument);
      continue;
    }
    twins.truncate(sequence, length);
    decode(twins, sequence, 3);
  }
  decode(twins, sequence, 40);
}

TEST_CASE("Pages go by the ratios of their rows, as PagedEviction has it", "[cache]") {
  auto twins = twins_of<HalfPages, ValueKeyRatioScorer<>, DiscardTier>(
      small, limits_of(256, 1), OverCapacityScheduler{.capacity = 4}, NeverTrigger{});
  std::size_t const sequence = decode_new(twins, 21, 42);
  read_prompt(twins, sequence);
  decode(twins, sequence, 40);
  CHECK(twins.rows(sequence).evicted > 0);
}

TEST_CASE("Granules of a layer are ranked by what is remembered of their keys' norms", "[cache]") {
  auto twins = twins_of<BFloatLayerFours, Remembering<KeyNormScorer<>>>(
      small, limits_of(256, 2), OverCapacityScheduler{.capacity = 24}, NeverTrigger{});
  std::size_t const second = cut_pin_and_reset(twins, 3, 45, 50);
  read_prompt(twins, second);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("Granules that stand out of their chunk by their first row stay", "[cache]") {
  auto twins = twins_of<BFloatLayerFours, LagScorer<>>(small, limits_of(256, 2),
                                                       OverCapacityScheduler{.capacity = 24},
                                                       NeverTrigger{}, LagScorer<>{.rows = 26});
  std::size_t const second = cut_pin_and_reset(twins, 3, 47, 52);
  read_prompt(twins, second);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("Granules sleep by what is remembered of queries, and sequences go back", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  auto twins = twins_of<HalfFours>(small, limits_of(448, 1), scheduler, hasty(6),
                                   Remembering<MeanAbsDotScorer<KeyCodes<4>>>{{.window = 8}});
  std::size_t const sequence = decode_new(twins, 41, 43);
  read_prompt(twins, sequence);
  CHECK(twins.rows(sequence).asleep > 0);
  live(twins, sequence, kvfreeze_test::short_tests() ? 1 : 3, 0, 44);
  live(twins, sequence, 1, 5, 45);
}

TEST_CASE("An engine's own kernel attends to granules, and what it saw is evidence", "[foreign]") {
  Limits const limits = limits_of(256, 2);
  using Recalled = Rows<Narrow<HalfFours, 64>, InstantMassScorer<KeyCodes<4>>,
                        WaterLevelScheduler<>, MissedMassTrigger>;
  Recalled ours(small, limits, busy(), calm());
  Recalled theirs(small, limits, busy(), calm());
  CHECK(attend_beside(ours, theirs, gpu::test::steps(100)).rows.frozen > 0);
  using Evicting = Rows<Narrow<HalfFours, 64>, CumulativeMassScorer<>, OverCapacityScheduler,
                        NeverTrigger, DiscardTier>;
  OverCapacityScheduler const scheduler{.capacity = 20};
  Evicting own(small, limits, scheduler);
  Evicting foreign(small, limits, scheduler);
  CHECK(attend_beside(own, foreign, 90).rows.evicted > 0);
}

TEST_CASE("A step of granules is as many launches as one of rows", "[cache]") {
  auto twins = twins_of<HalfFours, InstantMassScorer<KeyCodes<4>>>(small, limits_of(256, 3), busy(),
                                                                   impatient());
  if (kvfreeze_test::short_tests()) {
    decode_new(twins, 100, 46);
  } else {
    replay_by_turns(twins);
  }
  check_launches(twins, 0, 3);
}

TEST_CASE("Granules keep within a byte cap", "[budgets]") {
  using Recalled = Rows<Narrow<HalfFours, 64>, InstantMassScorer<KeyCodes<4>>,
                        WaterLevelScheduler<>, MissedMassTrigger>;
  hold_caps<Recalled>(320, 64, {0.0, 0.2}, busy(), impatient());
  using Evicting = Rows<Narrow<HalfPages, 64>, ValueKeyRatioScorer<>, OverCapacityScheduler,
                        NeverTrigger, DiscardTier>;
  hold_caps<Evicting>(320, 16, {0.0, 0.2}, OverCapacityScheduler{});
  using Spared = Rows<Narrow<HalfPages, 64>, InstantMassScorer<CuboidDigest<16>>,
                      SparedLayersScheduler, NeverTrigger>;
  hold_caps<Spared>(320, 16, {0.2}, SparedLayersScheduler{.spared = 1, .fraction = 1.0F});
}
