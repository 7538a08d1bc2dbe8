#pragma once

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Sum over the block, the same for all threads.
/// @param cell in shared memory, free before and after
__device__ inline std::uint32_t block_sum(std::uint32_t own, std::uint32_t& cell) {
  if (threadIdx.x == 0) {
    cell = 0;
  }
  __syncthreads();
  std::uint32_t const sum = __reduce_add_sync(0xFFFFFFFFU, own);
  if (threadIdx.x % 32 == 0 && sum != 0) {
    atomicAdd(&cell, sum);
  }
  __syncthreads();
  std::uint32_t const total = cell;
  __syncthreads();
  return total;
}

}  // namespace kvfreeze::gpu::detail
