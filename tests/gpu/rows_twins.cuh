#pragma once

/// @file
/// @brief Twins of layouts without compact rows, and what their tests set.

#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <gpu/rows_twin.hpp>
#include <gpu/twins.cuh>
#include <type_traits>

namespace kvfreeze::gpu::test {

template <class T, class Scorer, class Scheduler, class Trigger, class Tier = HostTier>
using Rows = KvFreezeCache<layout_of_t<T>, Scorer, Scheduler, Trigger,
                           std::conditional_t<std::is_same_v<Tier, HostTier>, PinnedTier, Tier>>;

/// @tparam Tier the host's; pinned memory of the device's stands for HostTier
template <class T, class Scorer, class Tier = HostTier, class Scheduler, class Trigger>
auto twins_of(Shape const& shape, Limits const& limits, Scheduler const& scheduler,
              Trigger const& trigger, Scorer const& scorer = {}) {
  return Twins<Rows<T, Scorer, Scheduler, Trigger, Tier>>(
      make_rows_twin<T, Scorer, Tier>(shape, limits, scheduler, trigger, scorer), shape, limits,
      scheduler, trigger, scorer);
}

/// A trigger that does not mind.
inline MissedMassTrigger calm() {
  MissedMassTrigger trigger;
  trigger.limit = 1.0F;
  return trigger;
}

/// A trigger that is never content.
inline MissedMassTrigger impatient() {
  MissedMassTrigger trigger;
  trigger.limit = 0.02F;
  trigger.cooldown = 8;
  return trigger;
}

}  // namespace kvfreeze::gpu::test
