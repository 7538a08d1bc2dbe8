#pragma once

#include <kvfreeze/gpu/detail/block_scan.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A list that a block makes of the bits that are set, in order. @see RankedList
template <int Threads>
struct BitList {
  struct Storage {
    std::uint32_t warp_sums[Threads / 32];
  };

  /// @brief Calls f(index, rank) for each bit of [0, n) that is set; ranks count from `first` on.
  /// All threads of the block call together.
  /// @param words whose bits from n on are 0
  /// @return how many there are, and `first`
  /// @complexity a round of two barriers for each 32 * Threads bits
  template <class F>
  static __device__ int for_each(std::uint32_t const* words, int n, int first, Storage& storage,
                                 F const& f) {
    int count = first;
    for (int begin = 0; begin < n; begin += 32 * Threads) {
      int const base = begin + 32 * static_cast<int>(threadIdx.x);
      std::uint32_t bits = base < n ? __ldcg(words + base / 32) : 0U;
      std::uint32_t before = 0;
      std::uint32_t total = 0;
      scan_block<Threads>(storage.warp_sums, static_cast<std::uint32_t>(__popc(bits)), before,
                          total);
      for (int rank = count + static_cast<int>(before); bits != 0; bits &= bits - 1, ++rank) {
        f(base + __ffs(static_cast<int>(bits)) - 1, rank);
      }
      count += static_cast<int>(total);
      __syncthreads();  // the storage is read
    }
    return count;
  }
};

}  // namespace kvfreeze::gpu::detail
