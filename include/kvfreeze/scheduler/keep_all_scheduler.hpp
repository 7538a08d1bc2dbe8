#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>

namespace kvfreeze {

/// @brief Nothing is ever low: a plain cache, the reference that others are measured against.
/// @complexity O(1)
struct KeepAllScheduler {
  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept {
    return Selection::all();
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const&) const noexcept {
    return Selection::all();
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }
};

static_assert(SchedulerPolicy<KeepAllScheduler>);

}  // namespace kvfreeze
