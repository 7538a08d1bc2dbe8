#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief The softmax mass of this step, nothing else.
///
/// What recall before attention needs: the current query decides, no past one does. Scores are in
/// [0, 1] and sum to at most 1 over a lane.
///
/// @complexity O(1)
template <DigestPolicy KeyDigest = NoDigest>
struct InstantMassScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::mass;

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return row.mass;
  }
};

static_assert(ScorerPolicy<InstantMassScorer<>>);

}  // namespace kvfreeze
