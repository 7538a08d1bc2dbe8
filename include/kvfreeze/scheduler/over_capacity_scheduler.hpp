#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>

#include <cstdint>
#include <limits>

namespace kvfreeze {

/// @brief Nothing happens until a lane is full; then its lowest granules go, and never come back.
///
/// The eviction rule of StreamingLLM, H2O and TOVA when the tier discards. `shrink` below 1 makes
/// room for many tokens at once, so that verdicts are rarer. Capacity and the selection's count
/// include the protected granules, as LaneFacts::exact does; they stay even where they are more
/// than the capacity.
///
/// @complexity O(1)
struct OverCapacityScheduler {
  int capacity = 0;     ///< granules that a lane may hold exact, >= 0; 0: what the byte cap allows
  float shrink = 1.0F;  ///< share of the capacity that is left once it was exceeded, in [2^-20, 1]

  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept {
    return Selection::none();
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const& lane) const noexcept {
    std::int32_t const limit = capacity > 0 && capacity < lane.allowed ? capacity : lane.allowed;
    if (lane.exact <= limit) {
      return Selection::all();
    }
    std::int32_t const target = detail::share_of(shrink, limit);
    return Selection::highest(target > lane.protected_granules ? target : lane.protected_granules);
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("OverCapacityScheduler::capacity", capacity, 0,
                          std::numeric_limits<int>::max());
    detail::require_range("OverCapacityScheduler::shrink", shrink, 0x1p-20, 1);
  }
};

static_assert(SchedulerPolicy<OverCapacityScheduler>);

}  // namespace kvfreeze
