#pragma once

#include <kvfreeze/gpu/detail/ordered_chunk.cuh>

namespace kvfreeze::gpu::detail {

/// @brief A list that a block makes of those of some indices that a condition picks, in order.
template <int Threads>
class RankedList {
  using Chunk = OrderedChunk<Threads>;

 public:
  using Storage = typename Chunk::Storage;

  /// @brief Calls f(index, rank) for the indices of [0, n) that `wanted` picks; ranks count from
  /// `first` on in the order of indices. All threads of the block call together.
  /// @param wanted wanted(i, some): which of the indices i, ..., i + some - 1 are wanted, a bit
  ///   each; i is a multiple of 4, `some` in [1, 4]
  /// @return how many are wanted, and `first`
  /// @complexity a round of two barriers for each 16 * Threads indices
  template <class Wanted, class F>
  static __device__ int for_each(int n, int first, Storage& storage, Wanted const& wanted,
                                 F const& f) {
    int count = first;
    for (int begin = 0; begin < n; begin += Chunk::entries) {
      unsigned flags = 0;
#pragma unroll
      for (int step = 0; step < Chunk::steps; ++step) {
        int const i = begin + Chunk::entry(step);
        if (i < n) {
          flags |= wanted(i, min(n - i, 4)) << (4 * step);
        }
      }
      Chunk const order(flags, storage);
#pragma unroll
      for (int step = 0; step < Chunk::steps; ++step) {
        for (unsigned left = (flags >> (4 * step)) & 0xFU; left != 0; left &= left - 1) {
          int const j = __ffs(static_cast<int>(left)) - 1;
          f(begin + Chunk::entry(step) + j, count + static_cast<int>(order.rank(flags, step, j)));
        }
      }
      count += static_cast<int>(order.total);
      __syncthreads();  // the storage is read
    }
    return count;
  }

  /// @brief The same from rank 0 on, where `picked(i)` is asked of one index at a time.
  template <class Picked, class F>
  static __device__ int for_each_picked(int n, Storage& storage, Picked const& picked, F const& f) {
    auto const wanted = [&](int first, int some) {
      unsigned flags = 0;
      for (int j = 0; j < some; ++j) {
        flags |= picked(first + j) ? 1U << j : 0U;
      }
      return flags;
    };
    return for_each(n, 0, storage, wanted, f);
  }
};

}  // namespace kvfreeze::gpu::detail
