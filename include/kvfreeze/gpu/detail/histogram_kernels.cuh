#pragma once

#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/block_histogram.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int histogram_threads = 256;
inline constexpr int histogram_tile = 4 * histogram_threads;  ///< granules

/// Blocks of a lane: as many as keep the device busy, but each with several tiles where the lanes
/// are long, so that flushing does not cost more than counting.
inline int histogram_blocks(int lanes, int max_granules) {
  constexpr int enough = 1024;
  constexpr int granules_each = 4 * histogram_tile;
  int const share = enough / lanes > 1 ? enough / lanes : 1;
  int const blocks = (max_granules + granules_each - 1) / granules_each;
  return blocks < share ? blocks : share;
}

/// @brief Counts a lane's scores, of which each block has tiles.
/// @tparam Rows as ScoredRows
/// @param histogram empty before and after
template <class Rows>
__device__ void count_scores(Rows const& rows, int max_granules, int block, int blocks,
                             BlockHistogram& histogram, host::LogHistogram& out) {
  int const end = min(rows.high, max_granules);
  unsigned zeros = 0;
  int counted = 0;
  // Tiles begin at multiples of four, whatever the first granule is.
  for (int begin = rows.low / 4 * 4 + block * histogram_tile; begin < end;
       begin += blocks * histogram_tile) {
    int const first = begin + 4 * static_cast<int>(threadIdx.x);
    int const n = min(max(end - first, 0), 4);
    std::uint32_t values[4] = {};
    if (rows.scores != nullptr) {
      load_four(rows.scores + first, n, 0U, values);
    }
    std::uint32_t const states = rows.states == nullptr ? 0U : load_four(rows.states + first, n);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j >= n || first + j < rows.low || (byte_of(states, j) & rows.hidden) != 0) {
        continue;
      }
      if (values[j] == 0) {
        zeros += 1;
      } else {
        histogram.add(values[j]);
      }
    }
    counted += histogram_tile;
    if (counted >= BlockHistogram::most_rows) {
      histogram.flush(out, zeros);
      zeros = 0;
      counted = 0;
    }
  }
  histogram.flush(out, zeros);
}

template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    histogram_threads) void log_histograms_kernel(Lanes lanes, int max_granules,
                                                  host::LogHistogram* histograms) {
  __shared__ BlockHistogram histogram;
  int const lane = static_cast<int>(blockIdx.y);
  auto const block = static_cast<int>(blockIdx.x);
  auto const rows = lanes.rows(lane);
  if (rows.low / 4 * 4 + block * histogram_tile >= min(rows.high, max_granules)) {
    return;
  }
  histogram.clear();
  count_scores(rows, max_granules, block, static_cast<int>(gridDim.x), histogram, histograms[lane]);
}

template <class Finish>
__global__ __attribute__((visibility("hidden")))
__launch_bounds__(CumulativeHistogram::threads) void finish_histograms_kernel(
    host::LogHistogram const* histograms, Finish finish) {
  __shared__ CumulativeHistogram rows;
  __shared__ typename CumulativeHistogram::Storage storage;
  int const lane = static_cast<int>(blockIdx.x);
  rows.build(histograms[lane], storage);
  finish(lane, rows);
}

/// The threshold of each lane's epsilon.
struct FindThreshold {
  std::uint32_t const* epsilons;
  std::uint32_t* thresholds;

  __device__ void operator()(int lane, CumulativeHistogram const& rows) const {
    if (threadIdx.x == 0) {
      thresholds[lane] = CumulativeHistogram::threshold(rows.all_but(epsilons[lane]));
    }
  }
};

}  // namespace kvfreeze::gpu::detail
