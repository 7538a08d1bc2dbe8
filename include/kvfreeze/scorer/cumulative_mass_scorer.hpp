#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/none.hpp>

namespace kvfreeze {

/// @brief Softmax mass summed over all steps ("heavy hitters").
///
/// Source: H2O (arXiv 2306.14048). Old granules have had more steps to collect mass: that bias is
/// the method's own, and `per_query` takes it away by dividing by the queries that could see the
/// granule. Scores are in [0, steps]; what is smaller than 6e-8 of the sum so far is lost in it.
///
/// @complexity O(1), 4 bytes for each granule; a prompt costs another pass over its keys for each
/// of its queries that count
template <DigestPolicy KeyDigest = NoDigest>
struct CumulativeMassScorer {
  using Digest = KeyDigest;
  static constexpr Evidence evidence = Evidence::mass;

  struct State {
    float sum = 0.0F;
  };

  bool per_query = false;  ///< the mean over the queries since the granule came
  int prompt = 1 << 24;    ///< of a prefill chunk the last so many queries count, >= 1

  KVFREEZE_HD constexpr int prompt_queries() const noexcept { return prompt; }

  KVFREEZE_HD constexpr void update(State& state, RowEvidence const& row) const noexcept {
    state.sum += row.mass;
  }

  KVFREEZE_HD float score(State const& state, RowEvidence const& row) const noexcept {
    return per_query ? detail::quotient(state.sum, static_cast<float>(row.age) + 1.0F) : state.sum;
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("CumulativeMassScorer::prompt", prompt, 1, 1 << 24);
  }
};

static_assert(ScorerPolicy<CumulativeMassScorer<>>);

}  // namespace kvfreeze
