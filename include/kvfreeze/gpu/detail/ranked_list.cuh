#pragma once

#include <cub/block/block_scan.cuh>

namespace kvfreeze::gpu::detail {

/// @brief A list that a block makes of those of some indices that a condition picks, in order.
template <int Threads>
class RankedList {
  using Scan = cub::BlockScan<int, Threads>;

 public:
  using Storage = typename Scan::TempStorage;

  /// @brief Calls f(index, rank) for the indices of [0, n) that `wanted` picks, in order; all
  /// threads call together. @return how many there are beyond `first`, `first` included
  template <class Wanted, class F>
  static __device__ int for_each(int n, int first, Storage& storage, Wanted const& wanted,
                                 F const& f) {
    int count = first;
    for (int begin = 0; begin < n; begin += Threads) {
      int const i = begin + static_cast<int>(threadIdx.x);
      bool const is_wanted = i < n && wanted(i);
      int rank = 0;
      int total = 0;
      Scan(storage).ExclusiveSum(is_wanted ? 1 : 0, rank, total);
      if (is_wanted) {
        f(i, count + rank);
      }
      count += total;
      __syncthreads();
    }
    return count;
  }
};

}  // namespace kvfreeze::gpu::detail
