#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief Each lane keeps what it needs: all granules but the least, whose masses sum to ε.
///
/// Recall decides with the current query; what a recall wanted stays for `stay` steps, so that a
/// granule on the border does not come and go (design: cumulative-mass thresholds beat equal
/// budgets; lag is the enemy). With `softness` above 0 granules that stay low are looked at ever
/// more rarely: the c-th detection puts them to sleep for ⌊√c / softness⌋ steps, during which
/// nothing, not even a recall, sees them.
///
/// Meant for scorers whose scores are masses.
/// @complexity O(1)
/// @tparam Sleeps keep a counter and a timer for each granule (16 bytes); without them `softness`
/// must be 0
template <bool Sleeps = false>
struct MassLadderScheduler {
  static constexpr bool sleeps = Sleeps;

  float missed_mass = 0.06F;  ///< ε: softmax mass that attention may miss, in [0, 1]
  int stay = 4;               ///< steps that a recall holds, in [1, 2^24]
  float softness = 0.0F;      ///< 0: never asleep; else in [2^-8, 2^16]
  float hold = 0.5F;          ///< share of ε at which an exact granule still counts as wanted
  int dense_rows = 576;       ///< shorter lanes keep all: a scan would cost more than it saves

  KVFREEZE_HD constexpr float base_level() const noexcept { return missed_mass; }

  KVFREEZE_HD constexpr float hysteresis() const noexcept { return hold; }

  /// Is the lane short, and does the cap leave it alone?
  KVFREEZE_HD constexpr bool is_dense(LaneFacts const& lane) const noexcept {
    return lane.granules * lane.page_tokens < dense_rows && lane.granules < lane.allowed;
  }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const& lane) const noexcept {
    return is_dense(lane) ? Selection::all() : Selection::all_but_mass(missed_mass);
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const& lane) const noexcept {
    return is_dense(lane) ? Selection::all() : Selection::wanted_within(stay);
  }

  KVFREEZE_HD constexpr int sleep(int detections) const noexcept {
    return detections <= 0 || !(softness > 0.0F)
               ? 0
               : detail::floor_sqrt_over(static_cast<std::uint32_t>(detections), softness);
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("MassLadderScheduler::missed_mass", missed_mass, 0, 1);
    detail::require_range("MassLadderScheduler::stay", stay, 1, 1 << 24);
    detail::require_range("MassLadderScheduler::hold", hold, 0, 1);
    detail::require_range("MassLadderScheduler::dense_rows", dense_rows, 0, 1 << 24);
    if (!Sleeps && softness != 0.0F) {
      detail::require_range("MassLadderScheduler<false>::softness", softness, 0, 0);
    }
    if (softness != 0.0F) {
      detail::require_range("MassLadderScheduler::softness", softness, detail::sqrt_divisor_min,
                            detail::sqrt_divisor_max);
    }
  }
};

static_assert(SchedulerPolicy<MassLadderScheduler<false>> &&
              SchedulerPolicy<MassLadderScheduler<true>>);

}  // namespace kvfreeze
