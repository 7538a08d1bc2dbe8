#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>

#include <cstdint>
#include <limits>

namespace kvfreeze {

/// @brief The same budget for every lane: its highest granules stay, the rest is frozen.
///
/// The rule of most published caches (H2O, SnapKV, Quest). A selection's count includes the
/// protected granules: a budget below their number keeps them and nothing else. Never asks for more
/// than the byte cap allows.
///
/// @complexity O(1)
struct FixedBudgetScheduler {
  float fraction = 0.25F;  ///< of the lane's granules, in [0, 1]; used where `granules` is 0
  int granules = 0;        ///< budget in granules, >= 0; 0: use `fraction`

  /// Granules that the lane may hold exact, protected ones included.
  KVFREEZE_HD constexpr std::int32_t budget(LaneFacts const& lane) const noexcept {
    std::int32_t const own = granules > 0 ? granules : detail::share_of(fraction, lane.granules);
    return own < lane.allowed ? own : lane.allowed;
  }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const& lane) const noexcept {
    return Selection::highest(budget(lane));
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const& lane) const noexcept {
    return Selection::highest(budget(lane));
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("FixedBudgetScheduler::fraction", fraction, 0, 1);
    detail::require_range("FixedBudgetScheduler::granules", granules, 0,
                          std::numeric_limits<int>::max());
  }
};

static_assert(SchedulerPolicy<FixedBudgetScheduler>);

}  // namespace kvfreeze
