#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>

namespace kvfreeze {

/// @brief Asks for nothing: no recovery.
/// @complexity O(1)
struct NeverTrigger {
  static constexpr Recovery highest = Recovery::none;

  KVFREEZE_HD constexpr Recovery observe(StepSignals const&) noexcept { return Recovery::none; }

  KVFREEZE_HD constexpr void reset() noexcept {}
};

static_assert(TriggerPolicy<NeverTrigger>);

}  // namespace kvfreeze
