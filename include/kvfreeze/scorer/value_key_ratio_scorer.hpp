#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Large values under small keys are kept: ‖v‖ / ‖k‖, mean over the granule's rows.
///
/// Source: PagedEviction (arXiv 2509.04377), which drops whole pages of 16 rows by it. The verdict
/// on a granule never changes.
///
/// @complexity O(head_dim) for each exact row whenever rows are ranked
template <DigestPolicy KeyDigest = NoDigest>
struct ValueKeyRatioScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::rows;

  KVFREEZE_HD float rate(RowContent const& row, LaneMoments const&) const noexcept {
    float const k = detail::root(detail::chained_dot(row.key, row.key, row.dim));
    float const v = detail::root(detail::chained_dot(row.value, row.value, row.dim));
    return detail::quotient(v, detail::larger(k, 0x1p-60F));
  }

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return detail::smaller(row.rating, 0x1p120F);
  }
};

static_assert(ScorerPolicy<ValueKeyRatioScorer<>>);

}  // namespace kvfreeze
