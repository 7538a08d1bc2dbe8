#include <kvfreeze/kvfreeze.hpp>

#include "random_operations.hpp"

using namespace kvfreeze;
using kvfreeze_test::random_operations;

TEST_CASE("random operations: box, sleeping mass ladder, in place", "[property]") {
  random_operations<KvFreezeCache<Layout<float>, WindowMassScorer<BoxDigest<>>,
                                  MassLadderScheduler<true>, InPlaceTier, MissedMassTrigger>>(
      {.missed_mass = 0.1F, .stay = 1, .softness = 0.3F, .dense_rows = 0});
}

TEST_CASE("random operations: cuboid, granule 4, water level", "[property]") {
  random_operations<KvFreezeCache<Layout<Half, 4>, InstantMassScorer<CuboidDigest<>>,
                                  WaterLevelScheduler<>, HostTier, NeverTrigger>>(
      {.missed_mass = 0.1F, .stay = 2, .dense_rows = 0});
}

TEST_CASE("random operations: mean key, granule 16, over capacity", "[property]") {
  random_operations<KvFreezeCache<Layout<Half, 16>, EmaMassScorer<MeanKeyDigest<>>,
                                  OverCapacityScheduler, HostTier, MissedMassTrigger>>(
      {.capacity = 6, .shrink = 0.7F});
}

TEST_CASE("random operations: key norm without digest, fixed budget", "[property]") {
  random_operations<KvFreezeCache<Layout<BFloat16, 4>, KeyNormScorer<>, FixedBudgetScheduler,
                                  HostTier, EntropyLadderTrigger>>();
}

TEST_CASE("random operations: cumulative mass, granule 4, discarding", "[property]") {
  random_operations<KvFreezeCache<Layout<float, 4>, CumulativeMassScorer<>, OverCapacityScheduler,
                                  DiscardTier, EntropyLadderTrigger>>({.capacity = 12});
}

TEST_CASE("random operations: codes over evicted rows", "[property]") {
  random_operations<KvFreezeCache<Layout<Half>, CumulativeMassScorer<KeyCodes<4>>,
                                  FixedBudgetScheduler, DiscardTier, MissedMassTrigger>>();
}
