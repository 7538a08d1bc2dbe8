#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>

namespace kvfreeze {

/// @brief Asks for SR at every step whose query turned away from the one before.
///
/// Source: FreeKV (arXiv 2505.13109): where cos(q_t, q_{t-1}) falls below .8, choices made with
/// older queries are corrected. The cosine is the mean over lanes. Remembers nothing.
///
/// @complexity O(1); the backend keeps one query for each lane
struct QueryDriftTrigger {
  static constexpr Recovery highest = Recovery::soft;
  static constexpr bool needs_query_cosine = true;

  float cosine = 0.8F;  ///< drift is a cosine below this, in [-1, 1]

  KVFREEZE_HD constexpr Recovery observe(StepSignals const& signals) const noexcept {
    return signals.query_cosine < cosine ? Recovery::soft : Recovery::none;
  }

  KVFREEZE_HD constexpr void reset() noexcept {}

  /// @throws InvalidArgument if `cosine` is out of its range
  void validate() const { detail::require_range("QueryDriftTrigger::cosine", cosine, -1, 1); }
};

static_assert(TriggerPolicy<QueryDriftTrigger>);

}  // namespace kvfreeze
