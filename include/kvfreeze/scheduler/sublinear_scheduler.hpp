#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/thaw.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief The published schedule: after its c-th detection a granule sleeps ⌊√c / k⌋ periods.
///
/// Source: ASR-KF-EGR (arXiv 2512.11221). Low means a score below τ, given as a number or as a
/// quantile of the lane's candidates. A sleep of 0 counts the detection but freezes nothing. The
/// paper says no word on forgetting; here detections more than `history` steps apart do not add
/// up, and a high observation leaves `forgive` of the count.
///
/// With Thaw::eager an always-low granule comes back every ⌊√c / k⌋ + 1 periods just to be looked
/// at: Θ((kT)^⅔) granules move per step at length T. Thaw::lazy asks the digest by the same rule
/// and moves what passes.
///
/// @complexity O(1); sleep() some 20 to 60 integer operations
template <Thaw Expiry = Thaw::lazy>
struct SublinearScheduler {
  static constexpr bool timed = true;
  static constexpr bool sleeps = true;
  static constexpr bool eager = Expiry == Thaw::eager;
  static constexpr int most_detections = 65535;  ///< count() saturates here

  float softness = 2.0F;    ///< k, in [2^-8, 2^16]; larger sleeps later and shorter
  float threshold = -1.0F;  ///< τ in the scorer's units; negative: use `quantile`
  float quantile = 0.7F;    ///< τ as a quantile of the candidates' scores, in [0, 1]
  int history = 256;        ///< steps, in [1, 2^24]
  float forgive = 0.5F;     ///< share of the count kept after a high observation, in [0, 1]
  int period_steps = 1;     ///< steps of a period of the slow clock, in [1, 65536]

  KVFREEZE_HD constexpr int period() const noexcept { return period_steps; }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const& lane) const noexcept {
    return eager ? Selection::all() : retain(lane);
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const&) const noexcept {
    return threshold < 0.0F ? Selection::above_quantile(quantile) : Selection::above(threshold);
  }

  /// ⌊√detections / softness⌋ periods, exactly, for every int; 0 where there was no detection.
  KVFREEZE_HD constexpr int sleep(int detections) const noexcept {
    return detections <= 0
               ? 0
               : detail::floor_sqrt_over(static_cast<std::uint32_t>(detections), softness);
  }

  KVFREEZE_HD constexpr int count(int previous, bool low,
                                  int steps_since_detection) const noexcept {
    int const remembered = steps_since_detection > history ? 0 : previous;
    if (!low) {
      return detail::share_of(forgive, remembered);
    }
    return remembered < most_detections ? remembered + 1 : most_detections;
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("SublinearScheduler::softness", softness, detail::sqrt_divisor_min,
                          detail::sqrt_divisor_max);
    detail::require_range("SublinearScheduler::threshold", threshold, -3.4e38, 3.4e38);
    detail::require_range("SublinearScheduler::quantile", quantile, 0, 1);
    detail::require_range("SublinearScheduler::history", history, 1, 1 << 24);
    detail::require_range("SublinearScheduler::forgive", forgive, 0, 1);
    detail::require_range("SublinearScheduler::period_steps", period_steps, 1, 65536);
  }
};

static_assert(SchedulerPolicy<SublinearScheduler<Thaw::lazy>>);
static_assert(SchedulerPolicy<SublinearScheduler<Thaw::eager>>);

}  // namespace kvfreeze
