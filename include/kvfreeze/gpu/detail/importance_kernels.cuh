#pragma once

#include <kvfreeze/detail/importance.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/global_memory.cuh>
#include <kvfreeze/gpu/importance_lane.cuh>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Adds the squares of one channel of queries to its sum: token by token, head by head, the
/// order of host::note_importance.
/// @param queries the channel's of the first token and head
template <Element T>
__device__ float add_squares(float sum, T const* queries, int tokens, std::ptrdiff_t stride,
                             int heads, int dim) {
  for (int token = 0; token < tokens; ++token) {
#pragma unroll 4
    for (int h = 0; h < heads; ++h) {
      sum = kvfreeze::detail::add_square(sum, widened(queries[h * dim]));
    }
    queries += stride;
  }
  return sum;
}

/// A thread a channel.
template <Element T, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void importance_kernel(
    ImportanceLane<T> const* lanes, int heads, int dim) {
  ImportanceLane<T> const lane = lanes[blockIdx.x];
  if (lane.tokens <= 0) {
    return;
  }
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += Threads) {
    float* const sum = global(lane.sums) + c;
    *sum = add_squares(*sum, global(lane.queries) + c, lane.tokens, lane.stride, heads, dim);
  }
}

}  // namespace kvfreeze::gpu::detail
