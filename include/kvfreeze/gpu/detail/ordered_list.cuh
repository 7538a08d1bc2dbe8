#pragma once

#include <cub/block/block_scan.cuh>

namespace kvfreeze::gpu::detail {

/// @brief The indices that a condition picks, in order, by a block.
template <int Threads>
struct OrderedList {
  using Scan = cub::BlockScan<int, Threads>;
  using Storage = typename Scan::TempStorage;

  /// @brief Calls f(index, rank) for the indices of [0, n) that `picked` picks; all threads of the
  /// block call together. @return how many there are
  template <class Picked, class F>
  static __device__ int for_each(int n, Storage& storage, Picked const& picked, F const& f) {
    int count = 0;
    for (int begin = 0; begin < n; begin += Threads) {
      int const i = begin + static_cast<int>(threadIdx.x);
      bool const counts = i < n && picked(i);
      int rank = 0;
      int total = 0;
      Scan(storage).ExclusiveSum(counts ? 1 : 0, rank, total);
      if (counts) {
        f(i, count + rank);
      }
      count += total;
      __syncthreads();
    }
    return count;
  }
};

}  // namespace kvfreeze::gpu::detail
