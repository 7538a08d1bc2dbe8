#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Rows that stand out of their chunk, by the ranges of the chunk after it.
///
/// Source: LagKV (arXiv 2504.04704). K and V of a chunk of `lag` rows are scaled by each channel's
/// range in the next chunk; a row's deviation over its channels, as a softmax over the chunk, mean
/// of K and V, gives its rank in the chunk. Every chunk is ranked for itself, so that each loses
/// the same part; rows whose next chunk is not complete come first. Attention is not looked at.
/// Scores are in [0, 1].
///
/// @complexity O(head_dim) for each exact row whenever rows are ranked, and a sort of each chunk
template <DigestPolicy KeyDigest = NoDigest>
struct LagScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::lag;

  int rows = 128;  ///< of a chunk, in [2, 4096]

  /// Rows of a chunk.
  KVFREEZE_HD constexpr int lag() const noexcept { return rows; }

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return row.rating;
  }

  /// @throws InvalidArgument if `rows` is out of its range
  void validate() const { detail::require_range("LagScorer::rows", rows, 2, 4096); }
};

static_assert(ScorerPolicy<LagScorer<>>);

}  // namespace kvfreeze
