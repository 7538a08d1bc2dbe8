#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>

namespace kvfreeze {

/// @brief Newer is higher: the score is the granule's position.
///
/// With a budget this is a sliding window, with sinks StreamingLLM (arXiv 2309.17453). Exact,
/// because positions are below 2^24. It looks at no content, hence needs no evidence and no digest.
///
/// @complexity O(1)
struct RecencyScorer {
  using State = NoState;
  static constexpr Evidence evidence = Evidence::none;

  KVFREEZE_HD constexpr void update(State&, RowEvidence const&) const noexcept {}

  KVFREEZE_HD constexpr float score(State const&, RowEvidence const& row) const noexcept {
    return static_cast<float>(row.position);
  }
};

static_assert(ScorerPolicy<RecencyScorer>);

}  // namespace kvfreeze
