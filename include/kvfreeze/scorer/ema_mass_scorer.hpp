#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Exponential moving average of the softmax mass: e ← e + (1 - decay)(mass - e), from 0.
///
/// After n steps of constant mass m the score is m(1 - decay^n): a granule seen n times is worth
/// that share of its true average, which is why newborn granules are protected. Steps that a
/// granule sleeps through leave its average alone. Scores are in [0, 1].
///
/// @complexity O(1), 4 bytes for each granule
template <DigestPolicy KeyDigest = NoDigest>
struct EmaMassScorer {
  using Digest = KeyDigest;
  static constexpr Evidence evidence = Evidence::mass;

  struct State {
    float average = 0.0F;
  };

  float decay = 0.9F;  ///< share of the average that a step keeps, in [0, 1)

  /// This form of the update cannot leave [0, 1] by rounding, and rests at a constant mass.
  KVFREEZE_HD void update(State& state, RowEvidence const& row) const noexcept {
    state.average = detail::fused(1.0F - decay, row.mass - state.average, state.average);
  }

  KVFREEZE_HD constexpr float score(State const& state, RowEvidence const&) const noexcept {
    return state.average;
  }

  /// @throws InvalidArgument if `decay` is out of its range
  void validate() const {
    detail::require_range("EmaMassScorer::decay", decay, 0.0, 0x1.fffffep-1);
  }
};

static_assert(ScorerPolicy<EmaMassScorer<>>);

}  // namespace kvfreeze
