#pragma once

/// @file
/// @brief Makes host caches behind the interface: for sources that instantiate it, which the host's
/// compiler compiles.

#include <kvfreeze/kv_freeze_cache.hpp>

#include <gpu/cache_twin.hpp>
#include <gpu/rows_twin.hpp>
#include <memory>

namespace kvfreeze::gpu::test {

template <class T, class Scorer, class Tier, class Scheduler, class Trigger>
std::unique_ptr<HostTwin> make_rows_twin(Shape const& shape, Limits const& limits,
                                         Scheduler const& scheduler, Trigger const& trigger,
                                         Scorer const& scorer) {
  using Cache = KvFreezeCache<layout_of_t<T>, Scorer, Scheduler, Tier, Trigger>;
  return std::make_unique<CacheTwin<Cache>>(shape, limits, scorer, scheduler, Tier(), trigger);
}

}  // namespace kvfreeze::gpu::test

/// Elements or a layout, a scorer, a tier, a scheduler and a trigger.
#define KVFREEZE_TIER_TWIN(T, Scorer, Tier, Scheduler, Trigger)       \
  template std::unique_ptr<HostTwin> make_rows_twin<T, Scorer, Tier>( \
      Shape const&, Limits const&, Scheduler const&, Trigger const&, Scorer const&)
#define KVFREEZE_ROWS_TWIN(T, Scorer, Scheduler, Trigger) \
  KVFREEZE_TIER_TWIN(T, Scorer, HostTier, Scheduler, Trigger)
