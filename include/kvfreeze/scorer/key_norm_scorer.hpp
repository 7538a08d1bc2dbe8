#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Keys of small norm are kept: the score is 1 / (1 + ‖k‖), in (0, 1].
///
/// Source: "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression" (arXiv
/// 2406.11430): small key norms go with high attention. The verdict on a granule never changes.
///
/// @complexity O(1)
template <DigestPolicy KeyDigest = NoDigest>
struct KeyNormScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::key;

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD float score(State const&, RowEvidence const& row) const noexcept {
    return detail::quotient(1.0F, 1.0F + row.key_norm);
  }
};

static_assert(ScorerPolicy<KeyNormScorer<>>);

}  // namespace kvfreeze
