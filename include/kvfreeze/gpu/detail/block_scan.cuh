#pragma once

/// @file
/// @brief Prefix sums over a block.
///
/// Not cub::BlockScan, as in primitives that are included one by one: its headers would take a
/// fifth of the time in which a program with a cache compiles.

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What scans share: sums of warps.
template <int Threads, class T = std::uint32_t>
using WarpSums = T[Threads / 32];

/// @brief From sums within warps to those of the block. By all its threads.
/// @param warps [warps] sums of the warps, which all threads see
/// @param before the warp's threads before; then all threads before
template <int Threads, class T>
__device__ void add_warps(WarpSums<Threads, T> const& warps, T& before, T& total) {
  total = 0;
  for (unsigned warp = 0; warp < Threads / 32; ++warp) {
    T const all = warps[warp];
    before += warp < threadIdx.x / 32 ? all : T{0};
    total += all;
  }
}

/// @brief Sums of the threads before, and of all. By all threads of a block, which may not touch
/// `warp_sums`, in shared memory, until the next barrier.
/// @tparam T unsigned integer of 32 or 64 bits
template <int Threads, class T>
__device__ void scan_block(WarpSums<Threads, T>& warp_sums, T x, T& before, T& total) {
  unsigned const thread = threadIdx.x % 32;
  T sum = x;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    T const lower = __shfl_up_sync(0xFFFFFFFFU, sum, distance);
    sum += thread >= distance ? lower : T{0};
  }
  if (thread == 31) {
    warp_sums[threadIdx.x / 32] = sum;
  }
  __syncthreads();
  before = sum - x;
  add_warps<Threads>(warp_sums, before, total);
}

/// @brief How many threads before say yes, and how many of all. As scan_block().
template <int Threads>
__device__ void scan_flags(WarpSums<Threads>& warp_sums, bool yes, std::uint32_t& before,
                           std::uint32_t& total) {
  unsigned const thread = threadIdx.x % 32;
  unsigned const flags = __ballot_sync(0xFFFFFFFFU, yes);
  if (thread == 0) {
    warp_sums[threadIdx.x / 32] = static_cast<std::uint32_t>(__popc(flags));
  }
  __syncthreads();
  before = static_cast<std::uint32_t>(__popc(flags & ((1U << thread) - 1U)));
  add_warps<Threads>(warp_sums, before, total);
}

}  // namespace kvfreeze::gpu::detail
