#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/none.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief Mean and spread of the mass that the step's queries give: mean + γ variance.
///
/// Source: ARKV (arXiv 2603.08727), the "heavy hitter" score. A prompt is judged by its last
/// `prompt` queries, a decoded token by its own, whose variance is 0: nothing is remembered from
/// step to step. The variance is unbiased; scores are averaged over `pooled` neighbours.
///
/// @complexity O(1), 16 bytes for each granule
template <DigestPolicy KeyDigest = NoDigest>
struct MeanVarianceScorer {
  using Digest = KeyDigest;
  static constexpr Evidence evidence = Evidence::mass;

  struct State {
    float sum = 0.0F;
    float squares = 0.0F;
    std::uint32_t queries = 0;
    std::uint32_t step = 0;
  };

  float gamma = 263.81F;  ///< weight of the variance, >= 0; the published value
  int prompt = 32;        ///< of a prefill chunk the last so many queries count, in [1, 2^20]
  int pooled = 5;         ///< neighbouring granules over which scores are averaged: odd, in [1, 63]

  KVFREEZE_HD constexpr int prompt_queries() const noexcept { return prompt; }

  KVFREEZE_HD constexpr int pooled_rows() const noexcept { return pooled; }

  KVFREEZE_HD void update(State& state, RowEvidence const& row) const noexcept {
    if (state.step != row.step) {
      state = {0.0F, 0.0F, 0, row.step};
    }
    state.sum += row.mass;
    state.squares = detail::fused(row.mass, row.mass, state.squares);
    state.queries += 1;
  }

  KVFREEZE_HD float score(State const& state, RowEvidence const&) const noexcept {
    if (state.queries < 2) {
      return state.sum;
    }
    auto const n = static_cast<float>(state.queries);
    float const mean = detail::quotient(state.sum, n);
    float const spread = detail::fused(-mean, state.sum, state.squares);  // sum of (x - mean)^2
    float const variance = detail::quotient(detail::larger(spread, 0.0F), n - 1.0F);
    return detail::fused(gamma, variance, mean);
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("MeanVarianceScorer::gamma", gamma, 0, 1e6);
    detail::require_range("MeanVarianceScorer::prompt", prompt, 1, 1 << 20);
    detail::require_pooling("MeanVarianceScorer::pooled", pooled);
  }
};

static_assert(ScorerPolicy<MeanVarianceScorer<>>);

}  // namespace kvfreeze
