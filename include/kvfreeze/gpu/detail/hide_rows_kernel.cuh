#pragma once

#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/error.cuh>

#include <cuda/std/limits>
#include <cuda/stream_ref>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The newest rows of each lane get logits of minus infinity: a query of a chunk does not
/// see those behind its own. One block a lane. @see host::hide_later_rows
/// @param hidden rows
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void hide_rows_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, int hidden) {
  auto const work = static_cast<int>(blockIdx.x);
  WorkLane const where(g, s, work);
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  LaneRuns const runs = lane_runs(ref, s, work);
  int const seen = ref.lane->rows - hidden;
  // By position where digests are asked, else in the order of slots.
  int const rows = C::has_digest ? ref.lane->rows : exact_rows<C>(*ref.lane);
  for (int i = (C::has_digest ? seen : 0) + static_cast<int>(threadIdx.x); i < rows; i += Threads) {
    int position = i;
    if constexpr (!C::has_digest) {
      std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i / C::page)).granule;
      position = static_cast<int>(granule) * C::page + i % C::page;
    }
    for (int h = 0; position >= seen && h < g.lane_queries; ++h) {
      runs.logits[h * runs.stride + i] = -::cuda::std::numeric_limits<float>::infinity();
    }
  }
}

/// The same, if there are any.
template <class C>
void launch_hide(RecallLanes<C> const& lanes, int hidden, ::cuda::stream_ref stream) {
  if (hidden > 0) {
    constexpr int threads = 128;
    hide_rows_kernel<C, threads>
        <<<static_cast<unsigned>(lanes.step.lanes), threads, 0, stream.get()>>>(
            lanes.geometry, lanes.memory, lanes.step, hidden);
    check_launch("hide_rows_kernel");
  }
}

}  // namespace kvfreeze::gpu::detail
