#pragma once

#include <kvfreeze/gpu/detail/recall_chunks.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    recall_threads) void recall_kernel(Lanes lanes, RecallDecision const* decisions,
                                       unsigned* arrived, std::uint32_t* cells, std::uint32_t* rest,
                                       int max_granules, RecallResult* results) {
  __shared__ RecallStorage storage;
  __shared__ bool last;
  int const number = static_cast<int>(blockIdx.y);
  int const chunk = static_cast<int>(blockIdx.x);
  RecallChunks const chunks(lanes.lane(number), decisions, number, cells,
                            static_cast<int>(gridDim.x), max_granules, storage);
  if (chunk >= chunks.count()) {
    return;
  }
  chunks.run(chunk);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(&arrived[number], 1U) + 1U == static_cast<unsigned>(chunks.count());
  }
  __syncthreads();
  if (last) {
    __threadfence();
    chunks.finish(rest + static_cast<std::size_t>(number) * static_cast<std::size_t>(max_granules),
                  results[number]);
  }
}

}  // namespace kvfreeze::gpu::detail
