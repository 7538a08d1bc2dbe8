#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>

#include <cstdint>
#include <limits>

namespace kvfreeze {

/// @brief FixedBudgetScheduler, but the model's first layers keep all of their rows.
///
/// Source: Quest (ICML 2024) and ArkVale (NeurIPS 2024), which leave the first two layers whole.
/// Under a byte cap the spared layers get what they need, or as much of it as the others can do
/// without; these share the rest in equal parts.
///
/// @complexity O(1)
struct SparedLayersScheduler {
  int spared = 2;          ///< layers that keep all, from the first on, >= 0
  float fraction = 0.25F;  ///< of another lane's granules, in [0, 1]; used where `granules` is 0
  int granules = 0;        ///< another lane's budget in granules, >= 0; 0: use `fraction`

  /// Part of a byte cap, relative to a lane that is not spared. A lane gets no more than all of its
  /// rows need.
  KVFREEZE_HD constexpr float share(LaneFacts const& lane) const noexcept {
    return lane.layer < spared ? 1024.0F : 1.0F;
  }

  /// Granules that the lane may hold exact, protected ones included.
  KVFREEZE_HD constexpr std::int32_t budget(LaneFacts const& lane) const noexcept {
    return lane.layer < spared ? lane.allowed
                               : FixedBudgetScheduler{fraction, granules}.budget(lane);
  }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const& lane) const noexcept {
    std::int32_t const most = budget(lane);
    return lane.granules <= most ? Selection::all() : Selection::highest(most);
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const& lane) const noexcept {
    return recall(lane);
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    constexpr int most = std::numeric_limits<int>::max();
    detail::require_range("SparedLayersScheduler::spared", spared, 0, most);
    detail::require_range("SparedLayersScheduler::fraction", fraction, 0, 1);
    detail::require_range("SparedLayersScheduler::granules", granules, 0, most);
  }
};

static_assert(SchedulerPolicy<SparedLayersScheduler>);

}  // namespace kvfreeze
