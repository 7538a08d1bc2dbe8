#pragma once

/// @file
/// @brief Stream compaction in place, by one block: what stays moves into the gaps in front.

#include <kvfreeze/gpu/detail/block_sum.cuh>

#include <cub/block/block_scan.cuh>

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
  using Scan = cub::BlockScan<int, Threads>;

  struct Storage {
    typename Scan::TempStorage scan;
    std::uint32_t gaps[2 * Threads];
    std::uint32_t movers[2 * Threads];
    std::uint32_t count;
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
      int const moves = min(gaps, movers);
      if (moves == 0) {
        break;  // no gaps are left: there are as many movers as gaps
      }
      int const lane = thread % 32;
      for (int i = thread / 32; i < moves; i += Threads / 32) {
        swap(storage.movers[i], storage.gaps[i], lane);
      }
      __syncthreads();
      gaps = shift(storage.gaps, moves, gaps);
      movers = shift(storage.movers, moves, movers);
    }
    return kept;
  }

 private:
  /// Adds the values of the threads that found one; returns how many did.
  __device__ int append(bool found, int value, std::uint32_t* out) {
    int at = 0;
    int total = 0;
    Scan(storage.scan).ExclusiveSum(found ? 1 : 0, at, total);
    if (found) {
      out[at] = static_cast<std::uint32_t>(value);
    }
    __syncthreads();
    return total;
  }

  /// Moves what lies behind the first `done` to the front; returns how many that are.
  __device__ int shift(std::uint32_t* list, int done, int count) {
    int const thread = static_cast<int>(threadIdx.x);
    int const left = count - done;
    std::uint32_t first = 0;
    std::uint32_t second = 0;
    if (thread < left) {
      first = list[done + thread];
    }
    if (thread + Threads < left) {
      second = list[done + thread + Threads];
    }
    __syncthreads();
    if (thread < left) {
      list[thread] = first;
    }
    if (thread + Threads < left) {
      list[thread + Threads] = second;
    }
    __syncthreads();
    return left;
  }
};

}  // namespace kvfreeze::gpu::detail
