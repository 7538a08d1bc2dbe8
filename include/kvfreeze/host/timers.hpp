#pragma once

#include <kvfreeze/host/memory.hpp>

#include <algorithm>
#include <cstdint>

namespace kvfreeze::host {

/// @brief Puts a frozen granule to sleep until step `wake`: into bucket wake mod 64 of its lane.
template <class C>
void fall_asleep(LaneRef<C> const& ref, std::uint32_t granule, std::uint32_t wake) noexcept {
  if constexpr (C::sleeps) {
    Timer& timer = ref.timer(granule);
    auto& head = ref.lane->wheel[wake % wheel_slots];
    timer.wake = wake;
    timer.next = head;
    head = granule;
    auto& state = ref.state(granule);
    state = GranuleState::with(state, Fidelity::asleep);
    ref.lane->asleep += 1;
  }
}

/// @brief Wakes the granules that are due at `step` or were due at steps without a recall. O(due +
/// those of later rounds in the bucket).
///
/// Buckets are singly linked: a granule never leaves one early. Whoever needs a sleeper sooner
/// calls `wake_where`.
template <class C>
void wake_due(LaneRef<C> const& ref, std::uint32_t step) noexcept {
  if constexpr (C::sleeps) {
    std::uint32_t const first =
        std::max(ref.lane->next_wake, step - std::min(step, wheel_slots - 1U));
    for (std::uint32_t due = first; due <= step; ++due) {
      auto& head = ref.lane->wheel[due % wheel_slots];
      std::uint32_t granule = head;
      head = no_granule;
      while (granule != no_granule) {
        Timer& timer = ref.timer(granule);
        std::uint32_t const next = timer.next;
        if (timer.wake <= step) {
          auto& state = ref.state(granule);
          state = GranuleState::with(state, Fidelity::frozen);
          ref.lane->asleep -= 1;
        } else {
          timer.next = head;
          head = granule;
        }
        granule = next;
      }
    }
    ref.lane->next_wake = step + 1;
  }
}

/// @brief Wakes the sleepers for which `due(granule, timer)` holds and rebuilds the wheel. O(rows);
/// for recovery and truncation only.
template <class C, class Due>
void wake_where(LaneRef<C> const& ref, Due&& due) noexcept {
  if constexpr (C::sleeps) {
    ref.lane->wheel.fill(no_granule);
    ref.lane->asleep = 0;
    auto const granules = static_cast<std::uint32_t>(ref.granules());
    for (std::uint32_t granule = 0; granule < granules; ++granule) {
      auto& state = ref.state(granule);
      if (GranuleState::fidelity(state) != Fidelity::asleep) {
        continue;
      }
      state = GranuleState::with(state, Fidelity::frozen);
      if (!due(granule, ref.timer(granule))) {
        fall_asleep(ref, granule, ref.timer(granule).wake);
      }
    }
  }
}

/// @brief Counts a detection (or its absence) and says how many steps the granule should sleep.
template <class C>
int detect(LaneRef<C> const& ref, typename C::Scheduler const& scheduler, std::uint32_t granule,
           bool low, std::uint32_t step) noexcept {
  if constexpr (C::sleeps) {
    Timer& timer = ref.timer(granule);
    auto const since = static_cast<int>(static_cast<std::uint16_t>(step - timer.last));
    int const count = std::clamp(
        kvfreeze::detail::recount(scheduler, static_cast<int>(timer.count), low, since), 0, 65535);
    timer.count = static_cast<std::uint16_t>(count);
    if (!low) {
      return 0;
    }
    timer.last = static_cast<std::uint16_t>(step);
    return std::max(scheduler.sleep(count), 0) * kvfreeze::detail::slow_period(scheduler);
  } else {
    return 0;
  }
}

}  // namespace kvfreeze::host
