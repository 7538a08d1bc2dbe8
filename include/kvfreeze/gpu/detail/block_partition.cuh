#pragma once

/// @file
/// @brief Stream compaction in place, by one block: what stays moves into the gaps in front.

#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/partition_lists.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Packs the entries that stay into [0, kept): each one behind moves into the place of one
/// that leaves in front. At most as many moves as there are gaps; nothing else is touched.
///
/// Gaps are found from the front and filled from the back, a round of `Threads` each at a time, so
/// that shared memory does not grow with the number of entries.
/// @tparam Threads of the block, which calls together
template <int Threads>
struct BlockPartition {
  struct Storage : PartitionLists<Threads> {
    WarpSums<Threads> warp_sums;
  };

  Storage& storage;

  /// @param leaves leaves(i): does entry i go? Asked of entries that have not moved
  /// @param swap swap(from, to), called by a whole warp: entry `from` takes the place of entry
  ///   `to`, which leaves
  /// @return how many stay; the same for all threads
  template <class Leaves, class Swap>
  __device__ int run(int entries, Leaves const& leaves, Swap const& swap) {
    int const thread = static_cast<int>(threadIdx.x);
    std::uint32_t own = 0;
    for (int i = thread; i < entries; i += Threads) {
      own += leaves(i) ? 0U : 1U;
    }
    auto const kept = static_cast<int>(block_sum(own, storage.count));
    int front = 0;    // where the search for gaps goes on
    int back = kept;  // where the search for movers goes on
    int gaps = 0;     // found and not filled yet
    int movers = 0;   // found and not moved yet
    while (front < kept || gaps > 0) {
      // Fill both buffers as far as a round can.
      while (gaps <= Threads && front < kept) {
        bool const found = front + thread < kept && leaves(front + thread);
        gaps += append(found, front + thread, storage.gaps + gaps);
        front += Threads;
      }
      while (movers < gaps && movers <= Threads && back < entries) {
        bool const found = back + thread < entries && !leaves(back + thread);
        movers += append(found, back + thread, storage.movers + movers);
        back += Threads;
      }
      if (!storage.move(gaps, movers, swap)) {
        break;  // no gaps are left: there are as many movers as gaps
      }
    }
    return kept;
  }

 private:
  /// Adds the values of the threads that found one; returns how many did.
  __device__ int append(bool found, int value, std::uint32_t* out) {
    std::uint32_t at = 0;
    std::uint32_t total = 0;
    scan_flags<Threads>(storage.warp_sums, found, at, total);
    if (found) {
      out[at] = static_cast<std::uint32_t>(value);
    }
    __syncthreads();
    return static_cast<int>(total);
  }
};

}  // namespace kvfreeze::gpu::detail
