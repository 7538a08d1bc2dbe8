#pragma once

#include <array>

namespace kvfreeze {

/// @brief The fidelity ladder of one lane, as cumulative masses.
///
/// Rows are ranked by the mass that the current query gives them. The lowest, whose masses sum to
/// at most `frozen`, are not attended; the next, up to `compact[i]`, are attended through level i
/// of the layout's `CompactRows`, coarsest first; the rest is exact. A level whose threshold is not
/// above the one before it holds nothing.
struct Rungs {
  static constexpr int most_levels = 3;

  float frozen = 0.0F;
  std::array<float, most_levels> compact{};
};

}  // namespace kvfreeze
