#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/none.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief Softmax mass summed over the recent steps only.
///
/// After SnapKV (arXiv 2404.14469), which sums over the last queries of the prompt and averages
/// over neighbouring rows; here the window goes on while decoding. Of a prompt the last `steps`
/// queries count. A sliding sum would need every mass of the window; two tumbling halves need two
/// floats: the sum covers the current half and the one before it, that is at least `steps` / 2 and
/// at most `steps` steps. Scores are in [0, steps].
///
/// @complexity O(1), 12 bytes for each granule
template <DigestPolicy KeyDigest = NoDigest>
struct WindowMassScorer {
  using Digest = KeyDigest;
  static constexpr Evidence evidence = Evidence::mass;

  struct State {
    float before = 0.0F;   ///< mass in the half before `half`
    float current = 0.0F;  ///< mass in `half`
    std::uint32_t half = 0;
  };

  int steps = 32;  ///< the window, in [2, 2^20]; an odd one counts as one less
  int pooled = 1;  ///< neighbouring granules over which scores are averaged: odd, in [1, 63]

  KVFREEZE_HD constexpr int prompt_queries() const noexcept { return steps; }

  KVFREEZE_HD constexpr int pooled_rows() const noexcept { return pooled; }

  KVFREEZE_HD constexpr void update(State& state, RowEvidence const& row) const noexcept {
    state = moved_to(half_of(row), state);
    state.current += row.mass;
  }

  /// Right after steps without an update too: what has left the window does not count.
  KVFREEZE_HD constexpr float score(State const& state, RowEvidence const& row) const noexcept {
    State const now = moved_to(half_of(row), state);
    return now.before + now.current;
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("WindowMassScorer::steps", steps, 2, 1 << 20);
    detail::require_pooling("WindowMassScorer::pooled", pooled);
  }

 private:
  KVFREEZE_HD constexpr std::uint32_t half_of(RowEvidence const& row) const noexcept {
    return row.step / static_cast<std::uint32_t>(steps / 2);
  }

  KVFREEZE_HD static constexpr State moved_to(std::uint32_t half, State const& state) noexcept {
    if (half == state.half) {
      return state;
    }
    return {half - state.half == 1 ? state.current : 0.0F, 0.0F, half};
  }
};

static_assert(ScorerPolicy<WindowMassScorer<>>);

}  // namespace kvfreeze
