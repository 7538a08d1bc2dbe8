#pragma once

#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/selection.hpp>

namespace kvfreeze::gpu::detail {

/// @brief Says how the step of a lane without compact rows will go. By the lane's block, when the
/// step's row is there. @see host::recall_lane
template <class C, int Threads>
__device__ void begin_recall(LaneRef<C> const& ref, LayerStep<C> const& s,
                             typename C::Scheduler const& scheduler, WorkLane const& work) {
  if (threadIdx.x != 0) {
    return;
  }
  LaneState& lane = *ref.lane;
  bool ranks = lane.slots < lane.rows;
  if constexpr (C::has_digest) {
    // With nothing frozen a scan tells what may freeze.
    auto const open = ref.open_range();
    LaneFacts const facts = lane_facts(ref, s.layer, work.head, work.step);
    ranks = ranks || (open.low < open.high && scheduler.recall(facts).kind != Selection::Kind::all);
  }
  lane.mode = ranks ? LaneMode::ranked : LaneMode::dense;
}

}  // namespace kvfreeze::gpu::detail
