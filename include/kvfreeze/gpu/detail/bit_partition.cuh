#pragma once

/// @file
/// @brief BlockPartition where what leaves is marked by bits: it costs what leaves, not what stays.

#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/partition_lists.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Packs the entries that stay into [0, kept), as BlockPartition does, in the same order.
/// @tparam Threads of the block, which calls together
template <int Threads>
struct BitPartition {
  struct Storage : PartitionLists<Threads> {
    std::uint32_t warp_sums[Threads / 32];
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
    do {
      found_gaps +=
          gaps.find(storage, storage.gaps, found_gaps, [&](int word) { return leaves[word]; });
      found_movers += movers.find(storage, storage.movers, found_movers,
                                  [&](int word) { return ~leaves[word]; });
    } while (storage.move(found_gaps, found_movers, swap));  // there are as many of both
    return kept;
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
        int const space = Storage::room - held - found;
        for (int at = static_cast<int>(before); bits != 0 && at < space; ++at) {
          list[held + found + at] =
              static_cast<std::uint32_t>(base + __ffs(static_cast<int>(bits)) - 1);
          bits &= bits - 1;
        }
        found += min(static_cast<int>(total), space);
        __syncthreads();
        if (held + found == Storage::room) {
          return found;
        }
      }
    }
  };
};

}  // namespace kvfreeze::gpu::detail
