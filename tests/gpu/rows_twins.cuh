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

/// A layout whose kernels are made for heads of so many elements at most; with compact rows, for
/// four query heads of a KV head.
template <class L, int MaxHeadDim>
using Narrow = Layout<typename L::element_type, L::page_tokens, L::grouping,
                      typename L::compact_rows, MaxHeadDim, (L::compact_rows::levels > 0 ? 4 : 0)>;

/// @tparam Tier the host's; pinned memory of the device's stands for HostTier
/// @tparam MaxHeadDim of the device's layout: kernels for other sizes need not be compiled
template <class T, class Scorer, class Tier = HostTier, int MaxHeadDim = 64, class Scheduler,
          class Trigger>
auto twins_of(Shape const& shape, Limits const& limits, Scheduler const& scheduler,
              Trigger const& trigger, Scorer const& scorer = {}) {
  return Twins<Rows<Narrow<layout_of_t<T>, MaxHeadDim>, Scorer, Scheduler, Trigger, Tier>>(
      make_rows_twin<T, Scorer, Tier>(shape, limits, scheduler, trigger, scorer), shape, limits,
      scheduler, trigger, scorer);
}

/// Rows freeze and come back early and often.
inline WaterLevelScheduler<> busy(float missed_mass = 0.3F) {
  WaterLevelScheduler<> scheduler;
  scheduler.missed_mass = missed_mass;
  scheduler.stay = 2;
  scheduler.dense_rows = 0;
  return scheduler;
}

/// Parts of a prompt that begin and end within granules and groups, with tokens between them.
template <class Twins>
void read_prompt(Twins& twins, std::size_t sequence) {
  for (int const chunk : {30, 3, 38}) {
    twins.prefill(sequence, chunk);
    decode(twins, sequence, 2);
  }
}

/// @brief One of two sequences is cut again and again, the other pinned, the first reset at times.
/// @param part tokens by which the first one grows in a round, about
/// @param decoded steps of a round
/// @return the second
template <class Twins>
std::size_t cut_pin_and_reset(Twins& twins, int rounds, int part, int decoded) {
  std::size_t const first = twins.open(31);
  std::size_t const second = twins.open(32);
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < decoded; ++i) {
      twins.step({first, second});
    }
    twins.truncate(first, part * (round + 1) - 7);
    twins.pin(second, {{20 + round, 25 + round}, {60, 60 + 10 * (round + 1)}});
    for (int i = 0; i < 3; ++i) {
      twins.step({second, first});
    }
    twins.compare_rows(second);
    if (round % 2 == 1) {
      twins.thaw(first);
    }
  }
  return second;
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
