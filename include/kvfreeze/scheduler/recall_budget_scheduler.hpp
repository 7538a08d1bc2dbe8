#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/lane_shares.hpp>

#include <cstdint>
#include <limits>

namespace kvfreeze {

/// @brief A budget of which a part is kept for recall: what freezing adds to an eviction rule.
///
/// The scorer's highest granules stay, as far as the rest of the budget goes; before attention the
/// current query picks its own highest from all granules that have a digest, and those that were
/// frozen come back for as long as the scorer or the next queries want them. Needs a digest and a
/// tier that keeps rows.
///
/// The budget is LaneBudgetScheduler's: a count, a fraction, or what the byte cap allows.
/// @complexity O(1)
template <LaneShares Shares = EqualShares>
struct RecallBudgetScheduler {
  Shares shares{};
  float recalled = 0.5F;  ///< part of the unprotected budget for the current query, in [0, 1]
  float fraction = 0.0F;  ///< of the lane's granules, in [0, 1]; used where `granules` is 0
  int granules = 0;       ///< of the mean lane, >= 0

  static constexpr bool needs_entropy = requires { Shares::needs_entropy; };
  static constexpr bool needs_layer_parts = requires { Shares::needs_layer_parts; };
  static constexpr bool needs_sequence_shares = requires { Shares::needs_sequence_shares; };

  /// Part of a byte cap, relative to the mean lane.
  KVFREEZE_HD float share(LaneFacts const& lane) const noexcept { return shares.of(lane); }

  /// Granules that the lane may hold exact, protected ones included.
  KVFREEZE_HD std::int32_t budget(LaneFacts const& lane) const noexcept {
    std::int32_t const own = detail::lane_budget(lane, granules, fraction, share(lane));
    return own < lane.allowed ? own : lane.allowed;
  }

  /// Granules of the budget that the current query fills.
  KVFREEZE_HD std::int32_t quota(LaneFacts const& lane) const noexcept {
    std::int32_t const open = detail::larger(budget(lane) - lane.protected_granules, 0);
    return detail::share_of(recalled, open);
  }

  KVFREEZE_HD Selection recall(LaneFacts const& lane) const noexcept {
    return lane.granules <= budget(lane)
               ? Selection::all()
               : Selection::highest(lane.protected_granules + quota(lane));
  }

  KVFREEZE_HD Selection retain(LaneFacts const& lane) const noexcept {
    std::int32_t const most = budget(lane);
    return lane.granules <= most
               ? Selection::all()
               : Selection::highest(detail::larger(most - quota(lane), lane.protected_granules));
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::validate_policy(shares);
    detail::require_range("RecallBudgetScheduler::recalled", recalled, 0, 1);
    detail::require_range("RecallBudgetScheduler::fraction", fraction, 0, 1);
    detail::require_range("RecallBudgetScheduler::granules", granules, 0,
                          std::numeric_limits<int>::max());
  }
};

static_assert(SchedulerPolicy<RecallBudgetScheduler<>>);

}  // namespace kvfreeze
