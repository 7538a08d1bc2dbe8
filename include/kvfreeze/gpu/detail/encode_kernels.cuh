#pragma once

#include <kvfreeze/gpu/detail/block_encode.cuh>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/global_memory.cuh>
#include <kvfreeze/gpu/detail/key_digests.cuh>
#include <kvfreeze/gpu/encode_job.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// A job's rows of K or V, as floats.
template <Element T>
struct JobRows {
  T const* first;
  std::ptrdiff_t stride;
  std::uint32_t const* rows;

  [[nodiscard]] __device__ T const* row(int i) const {
    return first + stride * (rows != nullptr ? static_cast<std::ptrdiff_t>(rows[i]) : i);
  }

  __device__ float operator()(int i, int channel) const { return widened(row(i)[channel]); }

  [[nodiscard]] __device__ float4 quad(int i, int quad) const {
    return load_quad(row(i) + 4 * quad);
  }
};

/// @brief The mean of the rows' values: their sum in row order times its share, as
/// host::note_value_means has it.
template <int Rows, int Threads, class Values>
__device__ void note_means(Values const& values, int dim, float* means) {
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += Threads) {
    float total = 0.0F;
#pragma unroll 8
    for (int row = 0; row < Rows; ++row) {
      total = __fadd_rn(total, values(row, c));
    }
    means[c] = __fmul_rn(total, 1.0F / static_cast<float>(Rows));
  }
}

/// A block a job.
template <class Digest, Element T, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void encode_kernel(
    EncodeJob<T> const* jobs, int dim) {
  __shared__ typename Encoder<Digest>::Storage storage;
  EncodeJob<T> const job = jobs[blockIdx.x];
  if (job.group == nullptr) {
    return;
  }
  if (job.means != nullptr) {
    note_means<Digest::group_rows, Threads>(
        JobRows<T>{global(job.values), job.stride, global(job.rows)}, dim, global(job.means));
  }
  Encoder<Digest>::template encode<Threads>(
      storage, JobRows<T>{global(job.keys), job.stride, global(job.rows)}, global(job.importance),
      dim, global(job.group));
}

}  // namespace kvfreeze::gpu::detail
