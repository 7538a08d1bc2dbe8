#pragma once

#include <array>
#include <cstdint>

namespace kvfreeze {

/// @brief The fidelity ladder of one lane, as cumulative masses.
///
/// Rows are ranked by the mass that the current query gives them. The lowest, whose masses sum to
/// at most `frozen`, are not attended; the next, up to `compact[i]`, are attended through level i
/// of the layout's `CompactRows`, coarsest first; the rest is exact. A level whose threshold is not
/// above the one before it holds nothing.
///
/// Or as ranks, where `attended` is not negative: so many of the rows that may freeze are attended,
/// those with the largest masses, and `above[i]` of them stand above level i.
struct Rungs {
  static constexpr int most_levels = 3;

  float frozen = 0.0F;
  std::array<float, most_levels> compact{};
  std::int32_t attended = -1;
  std::int32_t above[most_levels] = {};  ///< a plain array: device code reads and writes it
};

}  // namespace kvfreeze
