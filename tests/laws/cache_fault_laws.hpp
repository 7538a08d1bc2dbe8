#pragma once

#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"

namespace kvfreeze::laws {

using FaultyTier = FaultInjecting<HostTier>;

/// Every call to the tier fails once, with and without a cap; then the tier breaks for good.
template <class Cache>
void faults(Settings<Cache> const& settings = {}) {
  Limits limits = cache_limits();
  REQUIRE(every_fault_is_survived<Cache>(settings, limits) > 10);
  limits.resident_bytes = least_cap<Cache>(
      settings, limits, {.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 8});
  REQUIRE(every_fault_is_survived<Cache>(settings, limits) > 10);
  a_broken_tier_loses_nothing<Cache>(settings);
}

}  // namespace kvfreeze::laws
