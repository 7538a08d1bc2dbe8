#pragma once

#include <kvfreeze/gpu/detail/hide_rows.cuh>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/recall_lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What recall selects by, by granule: masses, or |q.k| behind them. @see host::recall_scores
template <class C>
__device__ std::uint32_t* recall_scores(LaneRuns const& runs, LayerStep<C> const& step) {
  return runs.masses + (C::needs_queries ? step.digest_rows : 0);
}

/// @brief The lanes of a layer's step without compact rows, for recall_rows_kernel(). Logits are by
/// position, masses by granule; a lane that ranks nothing has no rows.
template <class C>
struct RecallLanes {
  Geometry geometry;
  CacheMemory memory;
  LayerStep<C> step;

  [[nodiscard]] __device__ int runs(int work) const {
    return ref(work).lane->mode == LaneMode::dense ? 0 : 1;
  }

  [[nodiscard]] __device__ LogitRun run(int work, int) const {
    LaneRef<C> const own = ref(work);
    LaneRuns const all = lane_runs(own, step, work);
    auto const open = own.open_range();
    LogitRun run;
    run.logits = all.logits;
    run.stride = all.stride;
    run.rows = own.lane->rows;
    run.masses = all.masses;
    run.states = own.states;
    run.low = open.low;
    run.high = open.high;
    run.hidden = host::GranuleState::not_askable;
    run.absent = C::sleeps || C::discards ? host::GranuleState::not_estimated : 0;
    return run;
  }

  /// What is wanted is marked where the slow clock has its plans, which it makes later.
  [[nodiscard]] __device__ RecallLane lane(int work) const {
    WorkLane const where(geometry, step, work);
    LaneRef<C> const own(geometry, memory, where.sequence, where.lane);
    LaneRuns const all = lane_runs(own, step, work);
    RecallLane lane;
    lane.facts = lane_facts(own, step.layer, where.head, where.step);
    lane.scores = recall_scores(all, step);
    lane.states = own.states;
    lane.wanted = own.plans;
    lane.thaws = all.granules;
    lane.affordable = own.lane->allotment;
    if (own.lane->mode == LaneMode::dense) {
      lane.facts.granules = 0;
    } else {
      auto const open = own.open_range();
      lane.low = open.low;
      lane.high = open.high;
    }
    return lane;
  }

  [[nodiscard]] __device__ ScoredRows rows(int work) const { return lane(work).rows(); }

  /// The newest rows of a lane are not seen. By a block. @see hide_rows
  __device__ void hide(int work, int hidden) const {
    LaneRef<C> const own = ref(work);
    hide_rows(geometry, own, lane_runs(own, step, work), hidden);
  }

 private:
  [[nodiscard]] __device__ LaneRef<C> ref(int work) const {
    WorkLane const lane(geometry, step, work);
    return {geometry, memory, lane.sequence, lane.lane};
  }
};

/// @brief The rows that attention saw, in slot order, for softmax_masses_async() behind it.
template <class C>
struct AttendedRows {
  Geometry geometry;
  CacheMemory memory;
  LayerStep<C> step;

  [[nodiscard]] __device__ int runs(int) const { return 1; }

  [[nodiscard]] __device__ LogitRun run(int work, int) const {
    WorkLane const where(geometry, step, work);
    LaneRef<C> const own(geometry, memory, where.sequence, where.lane);
    LaneRuns const all = lane_runs(own, step, work);
    LogitRun run;
    run.logits = all.logits;
    run.stride = all.stride;
    run.rows = exact_rows<C>(*own.lane);
    run.masses = all.masses;
    return run;
  }
};

}  // namespace kvfreeze::gpu::detail
