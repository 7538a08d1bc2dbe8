#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"

using namespace kvfreeze;

namespace {

using Tier = FaultInjecting<HostTier>;

template <class Cache>
void faults(laws::Settings<Cache> const& settings = {}) {
  Limits limits = laws::cache_limits();
  REQUIRE(laws::every_fault_is_survived<Cache>(settings, limits) > 10);
  limits.resident_bytes = laws::least_cap<Cache>(
      settings, limits, {.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 8});
  REQUIRE(laws::every_fault_is_survived<Cache>(settings, limits) > 10);
  laws::a_broken_tier_loses_nothing<Cache>(settings);
}

}  // namespace

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
