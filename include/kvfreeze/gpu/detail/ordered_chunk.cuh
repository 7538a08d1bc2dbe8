#pragma once

/// @file
/// @brief Stable lists from flags: who is flagged before whom, within a block and across the blocks
/// of a lane.

#include <kvfreeze/gpu/detail/device_atomics.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A block's neighbours in order: a warp has 512 of them in four steps of 128, of which a
/// thread has four neighbours each, so that its loads are of 16 bytes and a warp's lie side by
/// side.
///
/// Flags of a thread's 16 entries are bits 4 * step + j.
template <int Threads>
struct OrderedChunk {
  static constexpr int steps = 4;
  static constexpr int entries = 4 * steps * Threads;

  struct Storage {
    std::uint32_t totals[Threads / 32];
  };

  std::uint32_t before[steps];  ///< flagged entries of the chunk before the thread's, by step
  std::uint32_t total;          ///< of the chunk

  /// The first of the thread's four entries of a step, from the chunk's beginning.
  [[nodiscard]] static __device__ int entry(int step) {
    auto const thread = static_cast<int>(threadIdx.x);
    return (thread / 32 * steps + step) * 128 + thread % 32 * 4;
  }

  /// By all threads of the block, which may not touch `storage` until the next barrier.
  __device__ OrderedChunk(unsigned flags, Storage& storage) {
    unsigned const lane = threadIdx.x % 32;
    unsigned const warp = threadIdx.x / 32;
    // A byte for each step: a warp has at most 128 flags in one.
    unsigned own = 0;
#pragma unroll
    for (int s = 0; s < steps; ++s) {
      own |= static_cast<unsigned>(__popc((flags >> (4 * s)) & 0xFU)) << (8 * s);
    }
    unsigned sums = own;
#pragma unroll
    for (unsigned offset = 1; offset < 32; offset *= 2) {
      unsigned const other = __shfl_up_sync(warp_mask, sums, offset);
      sums += lane >= offset ? other : 0U;
    }
    unsigned const all = __shfl_sync(warp_mask, sums, 31);
    sums -= own;
    std::uint32_t warp_total = 0;
#pragma unroll
    for (int s = 0; s < steps; ++s) {
      before[s] = warp_total + ((sums >> (8 * s)) & 0xFFU);
      warp_total += (all >> (8 * s)) & 0xFFU;
    }
    if (lane == 0) {
      storage.totals[warp] = warp_total;
    }
    __syncthreads();
    std::uint32_t first = 0;
    total = 0;
#pragma unroll
    for (unsigned w = 0; w < Threads / 32; ++w) {
      std::uint32_t const n = storage.totals[w];
      first += w < warp ? n : 0U;
      total += n;
    }
#pragma unroll
    for (int s = 0; s < steps; ++s) {
      before[s] += first;
    }
  }

  /// Flagged entries of the chunk before entry j of a step.
  [[nodiscard]] __device__ std::uint32_t rank(unsigned flags, int step, int j) const {
    unsigned const earlier = (flags >> (4 * step)) & ((1U << j) - 1U);
    return before[step] + static_cast<std::uint32_t>(__popc(earlier));
  }
};

/// @brief Counts of a lane's chunks, each of which a block publishes for the later ones.
///
/// A block waits for blocks of lower index only, which start no later than it does: as in CUB's
/// scans. Cells are 0 before the launch.
struct ChunkCounts {
  static constexpr std::uint32_t published = 0x80000000U;

  std::uint32_t* cells;  ///< of the lane

  /// By one thread.
  __device__ void publish(int chunk, std::uint32_t count) const {
    store_relaxed(cells + chunk, published | count);
  }

  /// Sum of the counts of the chunks before one. By a whole warp; each thread has it.
  [[nodiscard]] __device__ std::uint32_t before(int chunk) const {
    std::uint32_t sum = 0;
    for (int i = static_cast<int>(threadIdx.x) % 32; i < chunk; i += 32) {
      std::uint32_t cell = 0;
      do {
        cell = load_relaxed(cells + i);
      } while ((cell & published) == 0);
      sum += cell & ~published;
    }
    __syncwarp();
    return __reduce_add_sync(warp_mask, sum);
  }
};

}  // namespace kvfreeze::gpu::detail
