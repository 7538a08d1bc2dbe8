#pragma once

/// @file
/// @brief Counters and timers of granules, for schedulers that sleep.

#include <kvfreeze/gpu/detail/softmax_weight.cuh>
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

/// No sleeper is due before that.
inline constexpr std::uint32_t no_alarm = 0xFFFFFFFFU;

/// A frozen granule sleeps until step `wake`; the caller counts it. Alarms only come forward here:
/// one that rings in vain is put right by wake_due().
template <class C>
__device__ void fall_asleep(LaneRef<C> const& ref, std::uint32_t granule, std::uint32_t wake) {
  ref.timers[granule].wake = wake;
  atomicMin(&ref.alarms[granule / alarm_granules], wake);
  ref.states[granule] = host::GranuleState::with(ref.states[granule], Fidelity::asleep);
}

/// @brief A frozen granule that was asked and not wanted: another detection, another sleep.
/// @return does it sleep? The caller counts it
template <class C>
__device__ bool sleep_unwanted(LaneRef<C> const& ref, typename C::Scheduler const& scheduler,
                               std::uint32_t granule, std::uint32_t step) {
  int const sleep = detect(ref, scheduler, granule, true, step);
  if (sleep > 0) {
    fall_asleep(ref, granule, step + static_cast<std::uint32_t>(sleep));
  }
  return sleep > 0;
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
      sleepers += sleep_unwanted(ref, scheduler, static_cast<std::uint32_t>(i), step) ? 1 : 0;
    }
    if (sleepers != 0) {
      atomicAdd(&ref.lane->asleep, sleepers);
    }
  }
}

/// @brief Wakes the granules that are due, by the lane's block: a word is read for each 64
/// granules, and the states of those 64 only where one of them may be due.
/// @see host::wake_due, whose timing wheel this stands for
template <class C, int Threads>
__device__ void wake_due(LaneRef<C> const& ref, std::uint32_t step) {
  static_assert(alarm_granules == 64, "two granules a thread of a warp");
  int const granules = ref.granules();
  int const count = alarm_count(granules);
  auto const lane = static_cast<int>(threadIdx.x % 32);
  std::uint32_t woken = 0;
  for (int base = static_cast<int>(threadIdx.x / 32) * 32; base < count; base += Threads) {
    std::uint32_t const alarm = base + lane < count ? ref.alarms[base + lane] : no_alarm;
    unsigned ringing = __ballot_sync(warp_mask, alarm <= step && alarm != no_alarm);
    for (; ringing != 0; ringing &= ringing - 1) {
      int const at = base + __ffs(static_cast<int>(ringing)) - 1;
      std::uint32_t next = no_alarm;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        int const i = alarm_granules * at + lane + 32 * j;
        std::uint8_t const state = i < granules ? ref.states[i] : std::uint8_t{0};
        if (host::GranuleState::fidelity(state) != Fidelity::asleep) {
          continue;
        }
        std::uint32_t const wake = ref.timers[i].wake;
        if (wake <= step) {
          ref.states[i] = host::GranuleState::with(state, Fidelity::frozen);
          woken += 1;
        } else {
          next = min(next, wake);
        }
      }
      next = __reduce_min_sync(warp_mask, next);
      if (lane == 0) {
        ref.alarms[at] = next;
      }
    }
  }
  if (woken != 0) {
    atomicSub(&ref.lane->asleep, woken);
  }
}

}  // namespace kvfreeze::gpu::detail
