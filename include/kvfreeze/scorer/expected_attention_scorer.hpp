#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/digest/none.hpp>

#include <cstddef>

namespace kvfreeze {

/// @brief The attention that a row would get from a normal distribution of queries, times ‖v‖.
///
/// Source: ExpectedAttention (kvpress): E[exp(q.k s)] = exp(s mean.k + s² k'Σk / 2). Its mean and
/// covariance are those of queries before RoPE, turned to the positions to come; here they are
/// those of the recent queries as attention sees them, Σ is diagonal, and the mean over the query
/// heads that share a KV head is that of the exponents.
///
/// @complexity O(query heads * head_dim) for each exact row whenever rows are ranked
template <DigestPolicy KeyDigest = NoDigest>
struct ExpectedAttentionScorer {
  using Digest = KeyDigest;
  using State = NoState;
  static constexpr Evidence evidence = Evidence::rows;

  KVFREEZE_HD float rate(RowContent const& row, LaneMoments const& lane) const noexcept {
    float exponents = 0.0F;
    for (int h = 0; h < lane.heads; ++h) {
      float const* const mean = lane.queries + static_cast<std::ptrdiff_t>(h) * row.dim;
      float const* const squares = lane.squares + static_cast<std::ptrdiff_t>(h) * row.dim;
      float spread = 0.0F;
      for (int d = 0; d < row.dim; ++d) {
        float const variance = detail::larger(detail::fused(-mean[d], mean[d], squares[d]), 0.0F);
        spread = detail::fused(row.key[d] * row.key[d], variance, spread);
      }
      float const logit = lane.scale * detail::chained_dot(row.key, mean, row.dim);
      exponents += detail::fused(0.5F * lane.scale * lane.scale, spread, logit);
    }
    float const octaves =
        detail::quotient(exponents, static_cast<float>(lane.heads) * detail::nats_per_octave);
    // A product that no compiler adds to something in one rounding.
    return detail::fused(detail::ranking_exp2(octaves),
                         detail::root(detail::chained_dot(row.value, row.value, row.dim)), 0.0F);
  }

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return detail::smaller(row.rating, 0x1p120F);
  }
};

static_assert(ScorerPolicy<ExpectedAttentionScorer<>>);

}  // namespace kvfreeze
