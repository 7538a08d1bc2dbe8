#pragma once

#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/error.cuh>

#include <cuda/stream_ref>

namespace kvfreeze::gpu::detail {

/// @brief The newest rows of each lane are not seen. One block a lane. @see hide_rows
/// @param hidden rows
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void hide_rows_kernel(
    RecallLanes<C> lanes, int hidden) {
  lanes.hide(static_cast<int>(blockIdx.x), hidden);
}

/// The same, if there are any.
template <class C>
void launch_hide(RecallLanes<C> const& lanes, int hidden, ::cuda::stream_ref stream) {
  if (hidden > 0) {
    constexpr int threads = 128;
    hide_rows_kernel<C, threads>
        <<<static_cast<unsigned>(lanes.step.lanes), threads, 0, stream.get()>>>(lanes, hidden);
    check_launch("hide_rows_kernel");
  }
}

}  // namespace kvfreeze::gpu::detail
