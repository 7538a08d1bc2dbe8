#pragma once

#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/code_job.cuh>
#include <kvfreeze/gpu/detail/global_memory.cuh>
#include <kvfreeze/gpu/detail/row_codes.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Copies bytes that are a multiple of 16 from shared memory, by half a warp.
__device__ inline void copy_code(std::byte* to, std::byte const* from, int bytes, int lane) {
#pragma unroll 1
  for (int i = 16 * lane; i < bytes; i += 256) {
    *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<uint4 const*>(from + i);
  }
}

/// @brief Half a warp a job. Codes are put together in shared memory and leave it 16 bytes at a
/// time.
/// @param count jobs that there are; null: all of `most`
template <class Digest, int ValueBits, int Residual, int Blocks, Element T, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads, 8) void encode_rows_kernel(CodeJob<T> const* jobs, std::uint32_t most,
                                        std::uint32_t const* count, int dim) {
  constexpr int value_bytes = static_cast<int>(host::value_code_bytes<ValueBits>(64 * Blocks));
  constexpr int residual_bytes = Residual * 8 * Blocks;
  __shared__ ValueTables<ValueBits> tables;
  __shared__ alignas(16) std::byte staged[Threads / 16][value_bytes + residual_bytes];
  std::uint32_t const jobs_here = count != nullptr ? min(*count, most) : most;
  if (blockIdx.x * (Threads / 16) >= jobs_here) {
    return;
  }
  tables.fill(static_cast<int>(threadIdx.x));
  __syncthreads();
  std::uint32_t const number = (blockIdx.x * Threads + threadIdx.x) / 16;
  int const lane = static_cast<int>(threadIdx.x % 16);
  CodeJob<T> const job = number < jobs_here ? jobs[number] : CodeJob<T>{};
  bool const is_there = job.values != nullptr;
  T const* const value = global(job.value);
  T const* const key = global(job.key);
  float const* const means = global(job.means);
  std::byte* const codes = staged[threadIdx.x / 16];
  BFloat16 const scale = encode_values<ValueBits, Blocks>(
      tables, [&](int c) { return is_there ? __fsub_rn(widened(value[c]), means[c]) : 0.0F; }, dim,
      codes, lane);
  if constexpr (Residual > 0) {
    if (is_there) {
      encode_residual<Residual>([&](int c) { return widened(key[c]); },
                                Digest::codes(global(job.group), dim), codes + value_bytes, lane);
    }
  }
  __syncwarp();
  if (is_there) {
    copy_code(global(job.values), codes, static_cast<int>(host::value_code_bytes<ValueBits>(dim)),
              lane);
    if constexpr (Residual > 0) {
      copy_code(global(job.residual), codes + value_bytes,
                static_cast<int>(host::residual_bytes<Residual>(dim)), lane);
    }
    if (lane == 0) {
      *global(job.scale) = scale;
    }
  }
}

}  // namespace kvfreeze::gpu::detail
