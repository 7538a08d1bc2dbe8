#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief The published score: s = (1/K) Σ |q·k| over the K most recent queries, times the
/// attention scale.
///
/// Source: ASR-KF-EGR (arXiv 2512.11221), eq. 2. The backend computes the exact sliding mean (mean
/// over the query heads of the group, maximum over the granule's rows), so nothing is kept for each
/// granule; the last K queries of each lane are. Scores are logits without sign: unbounded above,
/// and not comparable between lanes.
///
/// @complexity O(K * head_dim) once for each query and granule, O(1) here.
template <DigestPolicy KeyDigest = NoDigest>
struct MeanAbsDotScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::queries;

  int window = 32;  ///< K, queries, in [1, 1024]

  KVFREEZE_HD constexpr int queries() const noexcept { return window; }

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return row.mean_abs_dot;
  }

  /// @throws InvalidArgument if `window` is out of its range
  void validate() const { detail::require_range("MeanAbsDotScorer::window", window, 1, 1024); }
};

static_assert(ScorerPolicy<MeanAbsDotScorer<>>);

}  // namespace kvfreeze
