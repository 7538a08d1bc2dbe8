#pragma once

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Sums of the threads before, and of all. By all threads of a block, which may not touch
/// `warp_sums`, in shared memory, until the next barrier.
///
/// Not cub::BlockScan: one scan is not worth the seconds that its headers take to compile.
template <int Threads>
__device__ void scan_block(std::uint32_t (&warp_sums)[Threads / 32], std::uint32_t x,
                           std::uint32_t& before, std::uint32_t& total) {
  unsigned const thread = threadIdx.x % 32;
  std::uint32_t sum = x;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    std::uint32_t const lower = __shfl_up_sync(0xFFFFFFFFU, sum, distance);
    sum += thread >= distance ? lower : 0;
  }
  if (thread == 31) {
    warp_sums[threadIdx.x / 32] = sum;
  }
  __syncthreads();
  before = sum - x;
  total = 0;
  for (unsigned warp = 0; warp < Threads / 32; ++warp) {
    std::uint32_t const all = warp_sums[warp];
    before += warp < threadIdx.x / 32 ? all : 0;
    total += all;
  }
}

}  // namespace kvfreeze::gpu::detail
