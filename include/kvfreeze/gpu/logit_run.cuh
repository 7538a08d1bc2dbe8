#pragma once

/// @file
/// @brief Rows that share one softmax, as kernels find them: the runs of a lane.

#include <kvfreeze/config.hpp>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// Softmax mass in units of 2^-30.
using Mass = host::Mass;

namespace detail {

/// log2 of a granule's rows.
KVFREEZE_HD constexpr int page_shift(int page_tokens) noexcept {
  return page_tokens == 1 ? 0 : page_tokens == 4 ? 2 : 4;
}

}  // namespace detail

/// @brief Rows whose logits lie side by side, head by head or row by row: a part of those that
/// share one softmax.
///
/// Where a granule has several rows, masses, states and positions are those of granules, and a
/// granule's rows begin at a multiple of their number. Rows that it lacks (the newest granule of a
/// list may be incomplete) have a logit of minus infinity.
///
/// Accesses are of 16 bytes where `logits` and `masses` lie at multiples of 16 bytes, `stride` is a
/// multiple of 4 and `states` lies at a multiple of 4; elsewhere of single elements.
///
/// Row by row, `row_stride` is 2 for two heads, or a multiple of 4 for more; `logits` lies at a
/// multiple of as many floats, and behind an odd number of heads one float more is read. All rows
/// of such a run take part and count, and are granules: there are neither states nor positions.
struct LogitRun {
  static constexpr std::uint8_t state_bits = host::LogitRun::state_bits;
  static constexpr std::uint8_t taking_part = host::LogitRun::taking_part;

  /// `logits[h * stride + i * row_stride]` of head h and row i, octaves.
  float const* logits = nullptr;
  std::ptrdiff_t stride = 0;      ///< from head to head; 1 if row_stride is another
  std::ptrdiff_t row_stride = 1;  ///< from row to row
  Mass* masses = nullptr;         ///< [granules], written
  /// State bytes of the lane by position, or null: all rows take part, none is hidden.
  std::uint8_t const* states = nullptr;
  std::uint32_t const* positions = nullptr;  ///< [granules] of the lane; null: 0, 1, 2, ...
  std::int32_t rows = 0;
  /// What histograms count: positions from `low` on and below `high`, of states without a bit of
  /// `hidden`.
  std::int32_t low = 0;
  std::int32_t high = 0x7FFFFFFF;
  std::uint8_t hidden = 0;
  std::uint8_t absent = 0;   ///< rows of states with one of these bits take no part in the softmax
  bool frozen_only = false;  ///< rows of other states do not take part in the softmax
  bool protects = false;     ///< masses of granules that histograms do not count are written as 0
};

static_assert(sizeof(LogitRun) == 64);  // no gaps: blocks copy it

/// @brief A lane's rows: of digests, exact ones, one run for each compact level.
struct RankedLane {
  static constexpr int most_runs = 2 + Rungs::most_levels;

  LogitRun run[most_runs];
  std::int32_t runs = 0;  ///< in use
};

/// @brief Lanes described in device memory. A kernel may change the descriptions between two uses,
/// so that a captured graph serves lanes that grow.
///
/// Functions over lanes take any trivially copyable type with these two members: a cache whose
/// kernels know where a lane's rows are needs no descriptions.
struct DescribedLanes {
  Span<RankedLane const> lanes;

  [[nodiscard]] __device__ int runs(int lane) const { return lanes[lane].runs; }

  [[nodiscard]] __device__ LogitRun run(int lane, int i) const { return lanes[lane].run[i]; }
};

}  // namespace kvfreeze::gpu
