#include <kvfreeze/kvfreeze.hpp>

#include "cache_fault_laws.hpp"

using namespace kvfreeze;

using laws::faults;
using Tier = laws::FaultyTier;

TEST_CASE("every fault is survived: ExactRecall", "[laws][cache][faults]") {
  faults<presets::ExactRecall<Half, Tier>>(
      {.scheduler = {.missed_mass = 0.1F, .stay = 2, .dense_rows = 0}});
}

TEST_CASE("every fault is survived: AsrKfEgr", "[laws][cache][faults]") {
  faults<presets::AsrKfEgr<float, Tier>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("every fault is survived: AsrKfEgrEager", "[laws][cache][faults]") {
  faults<presets::AsrKfEgrEager<BFloat16, Tier>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("every fault is survived: granules of 4, box digest", "[laws][cache][faults]") {
  faults<KvFreezeCache<Layout<Half, 4>, EmaMassScorer<BoxDigest<>>, FixedBudgetScheduler, Tier,
                       NeverTrigger>>();
}

TEST_CASE("every fault is survived: a checked copy of layer lanes", "[laws][cache][faults]") {
  faults<KvFreezeCache<Layout<Half, 4, Grouping::layer>, CumulativeMassScorer<>,
                       OverCapacityScheduler, FaultInjecting<Checksummed<HostTier>>, NeverTrigger>>(
      {.scheduler = {.capacity = 8}});
}
