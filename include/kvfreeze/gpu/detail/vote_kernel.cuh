#pragma once

#include <kvfreeze/gpu/detail/chunk_rows_kernels.cuh>
#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief The chunk's rows are the lane's. By one block.
template <class C, int Threads>
__device__ void end_chunk(LaneRef<C> const& ref) {
  LaneState& lane = *ref.lane;
  if (threadIdx.x == 0) {
    int const chunk = lane.chunk;
    int const granules = ref.granules();
    lane.rows += chunk;
    lane.slots += ref.granules() - granules - lane.chunk_frozen;
    lane.chunk = lane.chunk_frozen = 0;
    lane.moved_out =
        C::stores ? static_cast<std::uint64_t>(chunk) * 2 * ref.geometry->row_bytes : 0;
    lane.mean_queries =
        min(lane.mean_queries + static_cast<std::uint32_t>(chunk), most_mean_queries);
    if constexpr (C::has_digest) {
      lane.groups = lane.rows / C::Digest::group_rows;
    }
  }
  __syncthreads();
  find_tail<C, Threads>(ref);
  __syncthreads();
}

/// @brief Makes each lane ready to be ranked by one of the chunk's queries; before the first, the
/// chunk's rows become the lane's. One block a lane.
/// @param token whose query it is
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void vote_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, ChunkRows<Input> chunk, int token) {
  WorkLane const work(g, s, static_cast<int>(blockIdx.x));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState& lane = *ref.lane;
  if (s.pass == Pass::look) {
    bool const refused = lane.chunk == 0;
    __syncthreads();  // all have read what end_chunk() changes
    end_chunk<C, Threads>(ref);
    if constexpr (C::sleeps) {
      wake_due<C, Threads>(ref, work.step);
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      auto const open = ref.open_range();
      lane.mode = refused || open.low >= open.high ? LaneMode::dense : LaneMode::looks;
    }
    __syncthreads();
  }
  float* const octaves =
      s.queries + static_cast<std::ptrdiff_t>(blockIdx.x) * g.lane_queries * g.head_dim;
  load_queries<Input, Threads>(g, chunk.queries(g, work.head, token), octaves);
  describe_lane<C, Threads>(ref, s, static_cast<int>(blockIdx.x));
}

}  // namespace kvfreeze::gpu::detail
