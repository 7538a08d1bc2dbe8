#pragma once

/// @file
/// @brief The default ladder on both sides, and what its tests set.

#include <kvfreeze/gpu/kv_freeze_cache.cuh>

#include <gpu/host_twin.hpp>
#include <gpu/twins.cuh>
#include <type_traits>

namespace kvfreeze::gpu::test {

/// Heads of any size and number with the trigger that most tests have; with others those of
/// `small`, so that kernels for the rest are compiled once.
template <class T, class Trigger = NeverTrigger>
using Ladder = KvFreezeCache<Layout<T, 1, Grouping::kv_head, LadderRows,
                                    std::is_same_v<Trigger, NeverTrigger> ? 0 : small.head_dim,
                                    std::is_same_v<Trigger, NeverTrigger> ? 0 : 4>,
                             InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<>, Trigger>;

/// One that is on from the first row.
inline LadderScheduler<> ladder() {
  LadderScheduler<> scheduler;
  scheduler.dense = false;
  return scheduler;
}

/// @param of_host the host's limits, where they are others than the device's
template <class Trigger = NeverTrigger>
auto ladder_twins(Shape const& shape, Limits const& limits, LadderScheduler<> const& scheduler,
                  Trigger const& trigger, Limits const& of_host) {
  return Twins<Ladder<Half, Trigger>>(make_ladder_twin<Half>(shape, of_host, scheduler, trigger),
                                      shape, limits, scheduler, trigger);
}

template <class Trigger = NeverTrigger>
auto ladder_twins(Shape const& shape, Limits const& limits, LadderScheduler<> const& scheduler,
                  Trigger const& trigger = {}) {
  return ladder_twins(shape, limits, scheduler, trigger, limits);
}

}  // namespace kvfreeze::gpu::test
