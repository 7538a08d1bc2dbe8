#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Keys that point away from the others are kept: 1 - cos(k, mean direction), in [0, 2].
///
/// Source: KeyDiff (arXiv 2504.15364). The mean direction is that of all rows that were appended,
/// those that are gone included.
///
/// @complexity O(head_dim) for each exact row whenever rows are ranked
template <DigestPolicy KeyDigest = NoDigest>
struct KeyDifferenceScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::rows;

  KVFREEZE_HD float rate(RowContent const& row, LaneMoments const& lane) const noexcept {
    float const kk = detail::chained_dot(row.key, row.key, row.dim);
    float const aa = detail::chained_dot(lane.direction, lane.direction, row.dim);
    float const norm = detail::root(kk) * detail::root(aa);
    float const ka = detail::chained_dot(row.key, lane.direction, row.dim);
    return norm > 0.0F ? detail::clamped(detail::quotient(ka, norm), -1.0F, 1.0F) : 0.0F;
  }

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return 1.0F - row.rating;
  }
};

static_assert(ScorerPolicy<KeyDifferenceScorer<>>);

}  // namespace kvfreeze
