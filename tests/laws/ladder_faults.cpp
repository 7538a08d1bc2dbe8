#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"
#include "ladder_caches.hpp"

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

TEST_CASE("every fault is survived: KvFreeze", "[laws][cache][ladder][faults]") {
  faults<presets::KvFreeze<Half, Tier>>({.scheduler = {.stay = 2, .every = 2, .dense = false}});
}

TEST_CASE("every fault is survived: all levels, granules of 4", "[laws][cache][ladder][faults]") {
  faults<laws::FourLevels<float, 4, Grouping::layer, Tier, NeverTrigger>>(
      {.scheduler = {.none = 0.05F,
                     .first = 0.2F,
                     .second = 0.4F,
                     .third = 0.7F,
                     .stay = 1,
                     .every = 1,
                     .dense = false}});
}

TEST_CASE("every fault is survived: UniformQuantised", "[laws][cache][ladder][faults]") {
  faults<presets::UniformQuantised<2, BFloat16, Tier>>();
}
