#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <array>
#include <cstdint>
#include <string>

namespace kvfreeze {

/// @brief The fidelity ladder: every row is held as well as the current query needs it.
///
/// Before each attention a lane's rows are ranked by estimated mass. Those whose masses sum to at
/// most `none` stay frozen, the next are attended through their codes, those up to `first` at the
/// coarsest level of the layout's CompactRows, those up to `second` at the next, and the rest
/// exactly. A row rises at once and sinks when it was not needed at its level for `stay` steps.
///
/// Under a byte cap all lanes share one water level: the ladder's thresholds begin at `fill` of
/// their values, so that the cap is used and not only kept, and rise together until the bytes fit.
///
/// Meant for scorers whose scores are masses.
/// @complexity O(1)
/// @tparam Sleeps keep a counter and a timer for each granule (16 bytes); without them `softness`
/// must be 0
template <bool Sleeps = false>
struct LadderScheduler {
  static constexpr bool sleeps = Sleeps;

  float none = 0.02F;     ///< ε₀: mass that is not attended, in [0, 1]
  float first = 0.05F;    ///< ε of the first compact level, in [0, 1], not below `none`
  float second = 0.30F;   ///< ε of the second, if the layout has it, not below `first`
  float third = 1.0F;     ///< ε of the third, likewise; 1: nothing that may freeze is exact
  int stay = 4;           ///< steps that a row keeps its level unneeded, in [1, 2^15]
  int every = 4;          ///< a lane's rows sink every so many steps, in [1, 1024]
  float hold = 0.25F;     ///< share of a level's least mass at which a row of it is still needed
  float softness = 0.0F;  ///< k of ⌊√c/k⌋: periods asleep; 0: never; else in [2^-8, 2^16]
  bool dense = true;      ///< where no byte cap says otherwise, keep all while that is faster
  float fill = 0.1F;  ///< under a byte cap, share of the thresholds to begin from, in [2^-10, 1]

  KVFREEZE_HD constexpr float base_level() const noexcept { return none; }

  KVFREEZE_HD constexpr float capped_level() const noexcept { return none * fill; }

  KVFREEZE_HD constexpr float hysteresis() const noexcept { return hold; }

  KVFREEZE_HD constexpr int period() const noexcept { return every; }

  /// Is it faster to attend to everything, and does the cap leave room for it?
  KVFREEZE_HD constexpr bool is_dense(LaneFacts const& lane) const noexcept {
    return dense && lane.ladder_cost >= 1.0F && lane.granules < lane.allowed;
  }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const& lane) const noexcept {
    return is_dense(lane) ? Selection::all() : Selection::all_but_mass(rungs(lane).frozen);
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const& lane) const noexcept {
    return is_dense(lane) ? Selection::all() : Selection::wanted_within(stay);
  }

  /// @brief The thresholds in force: the scheduler's own, or under a byte cap all of them times the
  /// factor that brings `none` to the water level.
  KVFREEZE_HD constexpr Rungs rungs(LaneFacts const& lane) const noexcept {
    bool const capped = lane.allowed < LaneFacts::no_cap || lane.water_level > 0.0F;
    float const least = capped ? capped_level() : none;
    float const level = lane.water_level > least ? lane.water_level : least;
    float const lift = none > 0.0F ? level / none : 1.0F;
    auto const raised = [lift](float epsilon) {  // one of 1 stays there
      float const x = epsilon * lift;
      return epsilon < 1.0F && x < 1.0F ? x : 1.0F;
    };
    return {raised(none), {raised(first), raised(second), raised(third)}};
  }

  KVFREEZE_HD constexpr int sleep(int detections) const noexcept {
    return detections <= 0 || !(softness > 0.0F)
               ? 0
               : detail::floor_sqrt_over(static_cast<std::uint32_t>(detections), softness);
  }

  /// @throws InvalidArgument if a field is out of its range. That the thresholds of the layout's
  /// levels ascend is the cache's to check.
  void validate() const {
    detail::require_range("LadderScheduler::none", none, 0, 1);
    detail::require_range("LadderScheduler::first", first, 0, 1);
    detail::require_range("LadderScheduler::second", second, 0, 1);
    detail::require_range("LadderScheduler::third", third, 0, 1);
    detail::require_range("LadderScheduler::stay", stay, 1, 1 << 15);
    detail::require_range("LadderScheduler::every", every, 1, 1024);
    detail::require_range("LadderScheduler::hold", hold, 0, 1);
    detail::require_range("LadderScheduler::fill", fill, 0x1p-10, 1);
    if (!Sleeps && softness != 0.0F) {
      detail::require_range("LadderScheduler<false>::softness", softness, 0, 0);
    }
    if (softness != 0.0F) {
      detail::require_range("LadderScheduler::softness", softness, detail::sqrt_divisor_min,
                            detail::sqrt_divisor_max);
    }
  }
};

static_assert(SchedulerPolicy<LadderScheduler<false>> && SchedulerPolicy<LadderScheduler<true>>);

}  // namespace kvfreeze
