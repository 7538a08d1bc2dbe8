#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

namespace kvfreeze {

/// @brief Every unprotected row at the layout's first compact level, whatever it is worth: the
/// uniformly quantised caches (KIVI, KVQuant; per-channel K, per-row V).
/// @complexity O(1); nothing is ranked
struct UniformScheduler {
  static constexpr bool uniform = true;

  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept {
    return Selection::none();
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const&) const noexcept {
    return Selection::none();
  }

  KVFREEZE_HD constexpr Rungs rungs(LaneFacts const&) const noexcept {
    return {0.0F, {1.0F, 1.0F, 1.0F}};
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }
};

static_assert(SchedulerPolicy<UniformScheduler>);

}  // namespace kvfreeze
