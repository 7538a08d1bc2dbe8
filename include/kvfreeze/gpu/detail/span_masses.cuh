#pragma once

#include <kvfreeze/gpu/detail/block_histogram.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Masses of rows that have one verdict, Composition::span of them side by side: each gets
/// the mass of all. They may lie anywhere, so that sums are made by position. By all blocks of a
/// lane. @see host::sum_granules
///
/// A histogram counts each of the rows, with its own part of the sum: sums of bins are those of
/// granules, counts are so many times theirs.
/// @tparam Span rows, 4 or 16
template <int Span>
struct SpanMasses {
  static_assert(Span % 4 == 0, "a thread's four rows have one verdict");

  std::uint32_t* sums;             ///< [rows / Span]
  int rows;                        ///< that digests hold: verdicts on others are known
  Mass const* masses;              ///< of the lane
  std::uint32_t const* positions;  ///< of the rows behind the digests', where their masses are

  /// Before add(), with a barrier of the lane between them.
  __device__ void clear(LanePlace const& place) const {
    int const first = place.block * rank_threads + static_cast<int>(threadIdx.x);
    for (int i = first; i < rows / Span; i += place.blocks * rank_threads) {
      sums[i] = 0;
    }
  }

  /// Rows' own masses, each by the thread that made it.
  __device__ void add(LaneTiles const& tiles, LanePlace const& place) const {
    tiles.for_each(place, [&](int r, LogitRun const& run, int row) {
      int const n = rows_of(run, row);
      Mass own[4];
      load_four(run.masses + row, n, Mass{0}, own);
      if (r == 0) {
        Mass const all = own[0] + own[1] + own[2] + own[3];
        if (all != 0) {
          atomicAdd(sums + row / Span, all);
        }
        return;
      }
      std::uint32_t at[4];
      load_four(positions_of(run) + row, n, 0U, at);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (own[j] != 0) {
          atomicAdd(sums + at[j] / Span, own[j]);
        }
      }
    });
  }

  /// Instead of its own each row that takes part and is not protected gets the mass of all.
  /// @param histogram empty; afterwards in `out`
  __device__ void share(LaneTiles const& tiles, LanePlace const& place, BlockHistogram& histogram,
                        host::LogHistogram& out) const {
    unsigned zeros = 0;
    int counted = 0;
    tiles.for_each(place, [&](int r, LogitRun const& run, int row) {
      if (warp_has_rows(run, row)) {
        zeros += share_quad(run, row, r == 0, histogram);
      }
      counted += rank_tile;
      if (counted >= BlockHistogram::most_rows) {
        histogram.flush(out, zeros);
        zeros = 0;
        counted = 0;
      }
    });
    histogram.flush(out, zeros);
  }

 private:
  static __device__ int rows_of(LogitRun const& run, int row) {
    return min(max(run.rows - row, 0), 4);
  }

  [[nodiscard]] __device__ std::uint32_t const* positions_of(LogitRun const& run) const {
    return positions + (run.masses - masses);
  }

  /// @return how many of the four rows count and have no mass
  __device__ unsigned share_quad(LogitRun const& run, int row, bool in_order,
                                 BlockHistogram& histogram) const {
    RowQuad<true> const quad(run, row, 0, false);
    Mass own[4];
    load_four(run.masses + row, quad.rows, Mass{0}, own);
    std::uint32_t at[4];
    if (!in_order) {
      load_four(positions_of(run) + row, quad.rows, 0U, at);
    }
    unsigned zeros = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j >= quad.rows || ((quad.counted >> j) & 1U) == 0) {
        continue;
      }
      std::uint32_t const position = in_order ? static_cast<std::uint32_t>(row + j) : at[j];
      // Other blocks have added to it.
      Mass const all = quad.takes_part(j) ? __ldcg(sums + position / Span) : 0U;
      if (all == 0) {
        zeros += 1;
      } else {
        histogram.add(all, own[j]);
      }
      own[j] = all;
    }
    store_four(run.masses + row, own, quad.rows);
    return zeros;
  }
};

}  // namespace kvfreeze::gpu::detail
