#pragma once

/// @file
/// @brief BlockPartition where what leaves is marked by bits: it costs what leaves, not what stays.

#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/block_sum.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Packs the entries that stay into [0, kept), as BlockPartition does, in the same order.
/// @tparam Threads of the block, which calls together
template <int Threads>
struct BitPartition {
  static constexpr int room = 2 * Threads;  ///< entries found and not moved yet

  struct Storage {
    std::uint32_t warp_sums[Threads / 32];
    std::uint32_t gaps[room];
    std::uint32_t movers[room];
    std::uint32_t count;
  };

  Storage& storage;

  /// @param leaves bit i % 32 of word i / 32: entry i goes
  /// @param swap swap(from, to), called by a whole warp: entry `from` takes the place of entry
  ///   `to`, which leaves
  /// @return how many stay; the same for all threads
  /// @complexity O(entries / 32 + moves)
  template <class Swap>
  __device__ int run(int entries, std::uint32_t const* leaves, Swap const& swap) {
    int const thread = static_cast<int>(threadIdx.x);
    std::uint32_t own = 0;
    for (int word = thread; 32 * word < entries; word += Threads) {
      own += static_cast<std::uint32_t>(__popc(leaves[word] & bits_below(entries - 32 * word)));
    }
    int const kept = entries - static_cast<int>(block_sum(own, storage.count));
    if (kept == entries) {
      return kept;
    }
    Search gaps(0, kept);
    Search movers(kept, entries);
    int found_gaps = 0;
    int found_movers = 0;
    for (;;) {
      found_gaps +=
          gaps.find(storage, storage.gaps, found_gaps, [&](int word) { return leaves[word]; });
      found_movers += movers.find(storage, storage.movers, found_movers,
                                  [&](int word) { return ~leaves[word]; });
      int const moves = min(found_gaps, found_movers);
      if (moves == 0) {
        return kept;  // there are as many movers as gaps
      }
      for (int i = thread / 32; i < moves; i += Threads / 32) {
        swap(storage.movers[i], storage.gaps[i], thread % 32);
      }
      __syncthreads();
      found_gaps = shift(storage.gaps, moves, found_gaps);
      found_movers = shift(storage.movers, moves, found_movers);
    }
  }

 private:
  /// The lowest n bits, all if there are fewer.
  static __device__ std::uint32_t bits_below(int n) {
    return n >= 32 ? ~0U : (1U << max(n, 0)) - 1U;
  }

  /// @brief Goes through the bits of entries [next, end), a word a thread at a time.
  struct Search {
    int next;  ///< first entry of the words to come
    int end;
    int base = 0;            ///< first entry of the thread's word
    std::uint32_t bits = 0;  ///< of it, those that were not found yet

    __device__ Search(int first, int last) : next(first), end(last) {}

    /// @brief Finds entries until the list is full or there are no more.
    /// @return how many
    template <class Word>
    __device__ int find(Storage& storage, std::uint32_t* list, int held, Word const& word) {
      int found = 0;
      for (;;) {
        std::uint32_t before = 0;
        std::uint32_t total = 0;
        scan_block<Threads>(storage.warp_sums, static_cast<std::uint32_t>(__popc(bits)), before,
                            total);
        if (total == 0) {
          __syncthreads();
          if (next >= end) {
            return found;
          }
          int const aligned = next / 32 * 32;
          base = aligned + 32 * static_cast<int>(threadIdx.x);
          bits = base < end ? word(base / 32) & bits_below(end - base) : 0U;
          bits &= ~bits_below(next - base);
          next = aligned + 32 * Threads;
          continue;
        }
        int const space = room - held - found;
        for (int at = static_cast<int>(before); bits != 0 && at < space; ++at) {
          list[held + found + at] =
              static_cast<std::uint32_t>(base + __ffs(static_cast<int>(bits)) - 1);
          bits &= bits - 1;
        }
        found += min(static_cast<int>(total), space);
        __syncthreads();
        if (held + found == room) {
          return found;
        }
      }
    }
  };

  /// Moves what lies behind the first `done` to the front; returns how many that are.
  static __device__ int shift(std::uint32_t* list, int done, int count) {
    int const thread = static_cast<int>(threadIdx.x);
    int const left = count - done;
    std::uint32_t const first = thread < left ? list[done + thread] : 0U;
    std::uint32_t const second = thread + Threads < left ? list[done + thread + Threads] : 0U;
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
