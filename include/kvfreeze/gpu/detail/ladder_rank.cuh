#pragma once

/// @file
/// @brief The ladder's decisions of one lane and step, from masses to lists: who rises, who will
/// sink.

#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/ladder_decision.cuh>
#include <kvfreeze/gpu/detail/list_risers.cuh>
#include <kvfreeze/gpu/detail/place_risers.cuh>
#include <kvfreeze/gpu/detail/plan_sinking.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Decides one lane's step on the ladder and fetches what rises. By one block of
/// CumulativeHistogram::threads, when all masses of the lane are made and counted.
///
/// Afterwards the lane's slots are the exact rows that attention reads, guests behind them; logits
/// of codes that rise are minus infinity; `plans` says what the slow clock moves.
template <class C>
struct RankLadder {
  Geometry geometry;
  CacheMemory memory;
  LayerStep<C> step;
  typename C::Scheduler scheduler;

  /// @pre the lane is not dense
  __device__ void operator()(int work, CumulativeHistogram const& masses) const {
    __shared__ LadderStorage shared;
    WorkLane const where(geometry, step, work);
    LaneRef<C> const ref(geometry, memory, where.sequence, where.lane);
    LadderLane<C> const lane{ref, step, scheduler, memory.pool, where, work, shared};
    if (threadIdx.x == 0) {
      shared.runs = lane_runs(ref, step, work);
    }
    if constexpr (C::by_rank) {
      __syncthreads();
      cut_by_rank(lane, lane_facts(ref, step.layer, where.head, where.step));
    }
    if (threadIdx.x == 0) {
      decide(lane, masses);
    }
    __syncthreads();
    if (ref.lane->mode == LaneMode::dense) {
      return;
    }
    bool const capped = ref.lane->budget != no_limit && !shared.everything;
    if (capped && threadIdx.x < 32) {
      meet_aim(lane, masses);
    }
    __syncthreads();
    if constexpr (C::by_rank) {
      if (shared.outranked) {
        cut_by_rank(lane, shared.facts);
      }
    }
    if (step.pass == Pass::look) {
      forget_stamps(lane);
      return;
    }
    stamp_needed(lane);
    if (step.pass != Pass::decode) {
      if (step.pass == Pass::last_vote) {
        __syncthreads();
        plan_sinking(lane, 1);
        limit_sinking(lane, 0);
      }
      return;
    }
    int const asked = list_risers(lane);
    int const risers = place_risers(lane, asked);
    hide_risen_codes(lane, asked);
    __syncthreads();
    sleep_unneeded(lane);
    // Over its aim a lane keeps nothing that it does not need.
    bool const above = capped && needed_pages<C>(geometry, *ref.lane, shared.exact) > ref.lane->aim;
    // Where nothing rises again, nothing sinks before it has to.
    bool const visits = ref.lane->sinks && (C::rises || !capped);
    if (!shared.everything && (above || visits)) {
      plan_sinking(lane, above ? 1 : scheduler.retain(shared.facts).count);
      limit_sinking(lane, risers);
    }
    __syncthreads();
    finish(lane, risers);
  }

 private:
  /// The lane's numbers, and what attention reads.
  __device__ void finish(LadderLane<C> const& l, int risers) const {
    LaneState& lane = l.state();
    LadderStorage const& shared = l.shared;
    int const thread = static_cast<int>(threadIdx.x);
    if (thread < l.heads()) {
      float& absent = step.absent[l.work * l.heads() + thread];
      float const left = __ldcg(&absent) - static_cast<float>(shared.weights[thread]);
      absent = fmaxf(left, 0.0F);  // rounding may leave less than nothing
    }
    if (thread == 0) {
      int const slots = lane.slots;
      lane.missed = static_cast<float>(shared.missed) * 0x1p-30F;
      lane.slots = slots + shared.exact;
      lane.guests = risers - shared.exact;
      lane.thawed += static_cast<std::uint32_t>(risers);
      lane.moved_in += static_cast<std::uint64_t>(risers) * geometry.granule_bytes();
      lane.touched = step_bytes(l.ref, true, slots + risers);
      step.attended[l.work] = static_cast<std::uint32_t>(slots + risers);
      // A lane that is whole attends bit for bit as one that no ladder manages.
      bool const whole = slots + risers == lane.rows;
      step.attended[step.lanes + l.work] = whole ? 0U : static_cast<std::uint32_t>(slots);
      if (whole) {
        step.attention[l.work].absent = nullptr;
      }
    }
  }
};

}  // namespace kvfreeze::gpu::detail
