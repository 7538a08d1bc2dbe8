#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/lane_shares.hpp>

#include <cstdint>
#include <limits>

namespace kvfreeze {

/// @brief A budget for each lane: nothing happens until the lane exceeds it, then its lowest
/// granules go, as with OverCapacityScheduler.
///
/// The mean lane has `granules`, or `fraction` of its own granules; a lane has that times its
/// share, at least one granule and at most all of them. With neither, the byte cap is dealt by the
/// shares, so that budgets sum to the bytes given.
///
/// Counts include the protected granules; they stay even where they are more than the budget.
/// @complexity O(1)
template <LaneShares Shares = EqualShares>
struct LaneBudgetScheduler {
  Shares shares{};
  float fraction = 0.0F;  ///< of the lane's granules, in [0, 1]; used where `granules` is 0
  int granules = 0;       ///< of the mean lane, >= 0
  float shrink = 1.0F;    ///< share of a budget that is left once it was exceeded, in [2^-20, 1]

  static constexpr bool needs_entropy = requires { Shares::needs_entropy; };
  static constexpr bool needs_layer_parts = requires { Shares::needs_layer_parts; };
  static constexpr bool needs_sequence_shares = requires { Shares::needs_sequence_shares; };

  /// Part of a byte cap, relative to the mean lane.
  KVFREEZE_HD float share(LaneFacts const& lane) const noexcept { return shares.of(lane); }

  /// Granules that the lane may hold exact, protected ones included.
  KVFREEZE_HD std::int32_t budget(LaneFacts const& lane) const noexcept {
    std::int32_t const own = detail::lane_budget(lane, granules, fraction, share(lane));
    return detail::larger(own < lane.allowed ? own : lane.allowed, 1);
  }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept {
    return Selection::none();
  }

  KVFREEZE_HD Selection retain(LaneFacts const& lane) const noexcept {
    std::int32_t const most = budget(lane);
    return lane.exact <= most ? Selection::all()
                              : Selection::highest(detail::larger(detail::share_of(shrink, most),
                                                                  lane.protected_granules));
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::validate_policy(shares);
    detail::require_range("LaneBudgetScheduler::fraction", fraction, 0, 1);
    detail::require_range("LaneBudgetScheduler::granules", granules, 0,
                          std::numeric_limits<int>::max());
    detail::require_range("LaneBudgetScheduler::shrink", shrink, 0x1p-20, 1);
  }
};

static_assert(SchedulerPolicy<LaneBudgetScheduler<>> &&
              SchedulerPolicy<LaneBudgetScheduler<PyramidShares>> &&
              SchedulerPolicy<LaneBudgetScheduler<EntropyShares>> &&
              SchedulerPolicy<LaneBudgetScheduler<TableShares<>>>);

}  // namespace kvfreeze
