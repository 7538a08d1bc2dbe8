#pragma once

#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/host/kernels/histogram.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A block's part of a host::LogHistogram, in shared memory.
///
/// Sums are kept in halves of 16 bits of the values: native 32-bit atomics, two a row as a rule
/// (masses from 2^-14 on take a third). The block flushes before `most_rows` rows are in.
struct BlockHistogram {
  static constexpr int bins = host::LogHistogram::bins;
  static constexpr int most_rows = 1 << 16;

  unsigned counts[bins];
  unsigned low[bins];
  unsigned high[bins];

  /// By all threads of the block.
  __device__ void clear() {
    for (int b = static_cast<int>(threadIdx.x); b < bins; b += static_cast<int>(blockDim.x)) {
      counts[b] = 0;
      low[b] = 0;
      high[b] = 0;
    }
    __syncthreads();
  }

  /// By any thread.
  __device__ void add(std::uint32_t value) { add(value, value); }

  /// Where one of those that have a value between them lies: its own part goes to their bin.
  __device__ void add(std::uint32_t all, std::uint32_t value) {
    int const bin = host::log_bin(all);
    atomicAdd(&counts[bin], 1U);
    atomicAdd(&low[bin], value & 0xFFFFU);
    if (value > 0xFFFFU) {
      atomicAdd(&high[bin], value >> 16);
    }
  }

  /// @brief Adds what it has, and `zeros` rows more of value 0 from each thread, to a histogram in
  /// global memory, and clears itself. By all threads of the block.
  __device__ void flush(host::LogHistogram& out, unsigned zeros) {
    unsigned const sum = __reduce_add_sync(warp_mask, zeros);
    if (threadIdx.x % 32 == 0 && sum != 0) {
      atomicAdd(&counts[0], sum);
    }
    __syncthreads();
    for (int b = static_cast<int>(threadIdx.x); b < bins; b += static_cast<int>(blockDim.x)) {
      if (counts[b] != 0) {
        atomicAdd(&out.counts[b], counts[b]);
        unsigned long long const total = low[b] + (static_cast<unsigned long long>(high[b]) << 16);
        if (total != 0) {
          atomicAdd(reinterpret_cast<unsigned long long*>(&out.sums[b]), total);
        }
      }
    }
    __syncthreads();
    clear();
  }
};

}  // namespace kvfreeze::gpu::detail
