#pragma once

#include <kvfreeze/gpu/detail/global_memory.cuh>
#include <kvfreeze/gpu/detail/warp_refine.cuh>
#include <kvfreeze/gpu/refine_lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int most_refine_threads = 128;

/// Shared memory of a block.
template <class Digest, int Residual>
constexpr std::size_t refine_bytes(int warps, int dim) {
  using Refine = WarpRefine<Digest, Residual>;
  return static_cast<std::size_t>(4 * Refine::heads * query_line(dim) + warps * Refine::bytes(dim));
}

/// @brief Refines the pooled rows of lanes, 32 rows of one lane a warp.
/// @param lanes null: `only` is the one lane
/// @param chunks blocks of a lane
template <class Digest, int Residual>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    most_refine_threads) void refine_kernel(RefineLane const* lanes, RefineLane only,
                                            unsigned chunks, int heads, int dim) {
  using Refine = WarpRefine<Digest, Residual>;
  extern __shared__ __align__(16) std::byte refine_memory[];
  RefineLane const lane = lanes != nullptr ? lanes[blockIdx.x / chunks] : only;
  unsigned const begin = blockIdx.x % chunks * blockDim.x;
  if (begin >= lane.count) {
    return;
  }
  CodePages const groups = global(lane.groups);
  CodePages const residuals = global(lane.residuals);
  unsigned const warp = warp_index();
  unsigned const first = begin + 32 * warp;
  unsigned const count = first < lane.count ? min(lane.count - first, 32U) : 0;
  unsigned const row = count != 0 ? first + min(threadIdx.x % 32, count - 1) : 0;
  std::uint32_t const number = global(lane.rows)[row];
  float* const logits = global(lane.logits) + row;
  bool const gathers = lane.screen != nullptr;
  float const* const from = gathers ? global(lane.screen) + number : logits;
  std::ptrdiff_t const from_stride = gathers ? lane.screen_stride : lane.stride;
  auto* const queries = reinterpret_cast<float*>(refine_memory);
  Refine const refine(refine_memory + 4 * Refine::heads * query_line(dim) +
                          warp * static_cast<unsigned>(Refine::bytes(dim)),
                      dim);
  if (count != 0) {
    refine.stage(static_cast<int>(count),
                 [&](int i) { return residuals.at(first + static_cast<unsigned>(i)); });
  }
  for (int head = 0; head < heads; head += Refine::heads) {
    int const some = min(heads - head, Refine::heads);
    if (head > 0) {
      __syncthreads();  // the heads before are done
    }
    stage_queries(global(lane.query) + static_cast<std::ptrdiff_t>(head) * dim, some, Refine::heads,
                  dim, queries);
    __syncthreads();
    if (count != 0) {
      refine.refine(
          queries, some, number, static_cast<int>(count),
          [&](std::uint32_t group) { return groups.at(group); }, from + head * from_stride,
          from_stride, logits + static_cast<std::ptrdiff_t>(head) * lane.stride, lane.stride);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
