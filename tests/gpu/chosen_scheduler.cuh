#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/selection.hpp>

namespace kvfreeze::gpu::test {

/// Selects whatever it was told to.
template <bool Eager>
struct ChosenScheduler {
  static constexpr bool eager = Eager;
  Selection choice;
  float hold = 1.0F;

  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept { return choice; }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const&) const noexcept { return choice; }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  KVFREEZE_HD constexpr float base_level() const noexcept { return 0.01F; }

  KVFREEZE_HD constexpr float hysteresis() const noexcept { return hold; }
};

static_assert(SchedulerPolicy<ChosenScheduler<false>>);

}  // namespace kvfreeze::gpu::test
