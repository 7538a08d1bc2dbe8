#pragma once

#include <kvfreeze/gpu/detail/rank_lane.cuh>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Ranks the lanes of a layer's step. Where there are more blocks than lanes, all must be
/// resident.
template <class C, int Dim>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads, 2) void rank_kernel(__grid_constant__ RankArguments<C> const a) {
  extern __shared__ __align__(16) std::byte rank_memory[];
  __shared__ RankStorage<C> storage;
  LayerStep<C> const& step = a.ladder.step;
  LaneShare<rank_threads> const share(storage.share, step.work, step.lanes, most_rank_blocks);
  if (threadIdx.x == 0) {
    storage.place = share.place;
  }
  __syncthreads();
  RankLane<C, Dim> const lane(a, storage, rank_memory);
  if (share.place.lane < step.lanes && step.work[share.place.lane] != 0 && !lane.is_dense()) {
    lane.run();
  }
}

}  // namespace kvfreeze::gpu::detail
