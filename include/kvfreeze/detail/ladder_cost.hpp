#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>

#include <cstdint>

namespace kvfreeze::detail {

/// @brief Time that ranking and attending to some of a lane takes, relative to attending to all of
/// it exactly. In integers but for the last division: host and device agree.
///
/// The times are from benchmarks/growth (head_dim 64, three heads, rows from memory), of which only
/// the ratios matter: tenths of nanoseconds for a ranked, a compact and an exact row, and for the
/// lane itself, its risers included.
/// @param granules of the lane, at least 1
/// @param exact, compact granules that the ladder would hold, compact ones of all levels
KVFREEZE_HD inline float ladder_cost(std::int64_t granules, std::int64_t exact,
                                     std::int64_t compact, int page_tokens) noexcept {
  constexpr std::int64_t ranked_time = 26;
  constexpr std::int64_t compact_time = 100;
  constexpr std::int64_t exact_time = 118;
  constexpr std::int64_t lane_time = 175000;
  std::int64_t const sum = lane_time / page_tokens + ranked_time * granules + exact_time * exact +
                           compact_time * compact;
  return quotient(static_cast<float>(sum), static_cast<float>(exact_time * granules));
}

/// Rows from which the cost of a lane of `rows` rows is looked at again.
KVFREEZE_HD constexpr int next_look(int rows, int group_rows) noexcept {
  int const eighth = rows / 8;
  return rows + (group_rows > eighth ? group_rows : eighth);
}

}  // namespace kvfreeze::detail
