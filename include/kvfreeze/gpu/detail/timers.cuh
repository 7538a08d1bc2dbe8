#pragma once

/// @file
/// @brief Counters and timers of granules, for schedulers that sleep.

#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Counts a detection (or its absence) and says how many steps the granule should sleep.
/// @see host::detect
template <class C>
__device__ int detect(LaneRef<C> const& ref, typename C::Scheduler const& scheduler,
                      std::uint32_t granule, bool low, std::uint32_t step) {
  GranuleTimer& timer = ref.timers[granule];
  auto const since = static_cast<int>(static_cast<std::uint16_t>(step - timer.last));
  int const counted =
      kvfreeze::detail::recount(scheduler, static_cast<int>(timer.count), low, since);
  int const count = min(max(counted, 0), 65535);
  timer.count = static_cast<std::uint16_t>(count);
  if (!low) {
    return 0;
  }
  timer.last = static_cast<std::uint16_t>(step);
  return max(scheduler.sleep(count), 0) * kvfreeze::detail::slow_period(scheduler);
}

/// A frozen granule sleeps until step `wake`; the caller counts it.
template <class C>
__device__ void fall_asleep(LaneRef<C> const& ref, std::uint32_t granule, std::uint32_t wake) {
  ref.timers[granule].wake = wake;
  ref.states[granule] = host::GranuleState::with(ref.states[granule], Fidelity::asleep);
}

/// @brief Frozen granules that were asked and not wanted: another detection, another sleep. By a
/// block of `Threads`. @see host::sleep_where
/// @param unwanted unwanted(granule)
template <class C, int Threads, class Unwanted>
__device__ void sleep_where(LaneRef<C> const& ref, typename C::Scheduler const& scheduler,
                            std::uint32_t step, Unwanted const& unwanted) {
  if constexpr (C::sleeps) {
    auto const open = ref.open_range();
    std::uint32_t sleepers = 0;
    for (int i = open.low + static_cast<int>(threadIdx.x); i < open.high; i += Threads) {
      constexpr std::uint8_t held = host::GranuleState::pinned | host::GranuleState::forced |
                                    host::GranuleState::fidelity_mask;
      if ((ref.states[i] & held) != static_cast<std::uint8_t>(Fidelity::frozen) || !unwanted(i)) {
        continue;
      }
      auto const granule = static_cast<std::uint32_t>(i);
      int const sleep = detect(ref, scheduler, granule, true, step);
      if (sleep > 0) {
        fall_asleep(ref, granule, step + static_cast<std::uint32_t>(sleep));
        sleepers += 1;
      }
    }
    if (sleepers != 0) {
      atomicAdd(&ref.lane->asleep, sleepers);
    }
  }
}

/// @brief Wakes the granules that are due, by the lane's block. One byte is read of each granule:
/// sleepers cost that much.
/// @see host::wake_due
template <class C, int Threads>
__device__ void wake_due(LaneRef<C> const& ref, std::uint32_t step) {
  std::uint32_t woken = 0;
  for (int i = static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
    std::uint8_t const state = ref.states[i];
    if (host::GranuleState::fidelity(state) == Fidelity::asleep && ref.timers[i].wake <= step) {
      ref.states[i] = host::GranuleState::with(state, Fidelity::frozen);
      woken += 1;
    }
  }
  if (woken != 0) {
    atomicSub(&ref.lane->asleep, woken);
  }
}

}  // namespace kvfreeze::gpu::detail
