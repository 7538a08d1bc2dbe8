#pragma once

#include <kvfreeze/gpu/detail/device_atomics.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Where the blocks that work on one lane meet. Other lanes' blocks do not wait.
///
/// All of them must be resident: a cooperative launch. The cell is 0 before the first launch and
/// needs no clearing: blocks count in its lower bits, which end at 0 again when all have come,
/// while the highest bit turns over. A later launch may have another number of blocks.
struct LaneBarrier {
  static constexpr std::uint32_t turn = 0x80000000U;

  std::uint32_t* cell;   ///< of the lane
  std::uint32_t blocks;  ///< that work on it
  bool first;            ///< is this block the first of them?

  /// @brief The block has come so far: what it wrote is seen by those that wait. By all threads.
  /// @return for wait(), before the block arrives again
  [[nodiscard]] __device__ std::uint32_t arrive() const {
    __syncthreads();
    std::uint32_t before = 0;
    if (blocks > 1 && threadIdx.x == 0) {
      before = add_acquire_release(cell, share());
    }
    return before;
  }

  /// Until all blocks have come as far as arrive() was called. By all threads.
  __device__ void wait(std::uint32_t arrived) const {
    if (blocks > 1 && threadIdx.x == 0) {
      std::uint32_t now = 0;
      do {
        now = load_acquire(cell);
      } while (((now ^ arrived) & turn) == 0);
    }
    __syncthreads();
  }

  /// @brief When all have come, one of them is told so, and goes on for all; meet() ends it. By all
  /// threads.
  /// @param cell_of_block in shared memory, free before and after
  [[nodiscard]] __device__ bool elects(bool& cell_of_block) const {
    std::uint32_t const before = arrive();
    bool const last = comes_last(before, cell_of_block);
    if (!last) {
      wait(before);
    }
    return last;
  }

  /// Both.
  __device__ void meet() const { wait(arrive()); }

  /// @brief Instead of meet(), where the last one to come goes on for all. By all threads.
  /// @param cell_of_block in shared memory, free before and after
  /// @return is this block the last? It then sees what the others wrote
  [[nodiscard]] __device__ bool is_last(bool& cell_of_block) const {
    return comes_last(arrive(), cell_of_block);
  }

 private:
  [[nodiscard]] __device__ bool comes_last(std::uint32_t before, bool& cell_of_block) const {
    if (threadIdx.x == 0) {
      cell_of_block = blocks == 1 || ((before + share()) & ~turn) == 0;
    }
    __syncthreads();
    bool const last = cell_of_block;
    __syncthreads();
    return last;
  }

  /// What a block counts for: all together turn the highest bit over.
  [[nodiscard]] __device__ std::uint32_t share() const { return first ? turn - (blocks - 1) : 1U; }
};

/// @param barriers [lanes]
__device__ inline LaneBarrier lane_barrier(std::uint32_t* barriers, LanePlace const& place) {
  return {barriers + place.lane, static_cast<std::uint32_t>(place.blocks), place.block == 0};
}

}  // namespace kvfreeze::gpu::detail
