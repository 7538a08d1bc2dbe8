#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Softmax mass summed over all steps ("heavy hitters").
///
/// Source: H2O (arXiv 2306.14048). Old granules have had more steps to collect mass: that bias is
/// the method's own. Scores are in [0, steps]; what is smaller than 6e-8 of the sum so far is lost
/// in it.
///
/// @complexity O(1), 4 bytes for each granule
template <DigestPolicy KeyDigest = NoDigest>
struct CumulativeMassScorer {
  using Digest = KeyDigest;
  static constexpr Evidence evidence = Evidence::mass;

  struct State {
    float sum = 0.0F;
  };

  KVFREEZE_HD constexpr void update(State& state, RowEvidence const& row) const noexcept {
    state.sum += row.mass;
  }

  KVFREEZE_HD constexpr float score(State const& state, RowEvidence const&) const noexcept {
    return state.sum;
  }
};

static_assert(ScorerPolicy<CumulativeMassScorer<>>);

}  // namespace kvfreeze
