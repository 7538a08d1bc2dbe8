#include <kvfreeze/kvfreeze.hpp>

#include "random_operations.hpp"

using namespace kvfreeze;
using kvfreeze_test::random_operations;

TEST_CASE("random operations: float, granule 1, layer lanes, sleeping water level", "[property]") {
  random_operations<KvFreezeCache<Layout<float, 1, Grouping::layer>, InstantMassScorer<KeyCodes<8>>,
                                  WaterLevelScheduler<true>, HostTier, MissedMassTrigger>>(
      {.softness = 0.5F, .dense_rows = 0});
}

TEST_CASE("random operations: BFloat16, granule 4, mass ladder, checksummed", "[property]") {
  random_operations<KvFreezeCache<Layout<BFloat16, 4>, EmaMassScorer<KeyCodes<2>>,
                                  MassLadderScheduler<>, Checksummed<HostTier>, QueryDriftTrigger>>(
      {.missed_mass = 0.2F, .stay = 2, .dense_rows = 0});
}

TEST_CASE("random operations: float, granule 16, fixed budget, statistics", "[property]") {
  random_operations<
      KvFreezeCache<Layout<float, 16>, CumulativeMassScorer<KeyCodes<3>>, FixedBudgetScheduler,
                    Statistics<HostTier>, AnyOf<EntropyLadderTrigger, QueryDriftTrigger>>>();
}

TEST_CASE("random operations: Half, granule 4, layer lanes, sublinear", "[property]") {
  random_operations<KvFreezeCache<Layout<Half, 4, Grouping::layer>, MeanAbsDotScorer<KeyCodes<4>>,
                                  SublinearScheduler<Thaw::lazy>, HostTier, EntropyLadderTrigger>>(
      {.softness = 0.4F, .quantile = 0.7F});
}

TEST_CASE("random operations: BFloat16, granule 16, layer lanes, eager, in place", "[property]") {
  random_operations<
      KvFreezeCache<Layout<BFloat16, 16, Grouping::layer>, MeanAbsDotScorer<>,
                    SublinearScheduler<Thaw::eager>, InPlaceTier, EntropyLadderTrigger>>(
      {.softness = 0.4F});
}
