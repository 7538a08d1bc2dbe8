#pragma once

/// @file
/// @brief The ladder's decisions of one lane and step, from masses to lists: who rises, who will
/// sink.

#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/ladder_decision.cuh>
#include <kvfreeze/gpu/detail/list_risers.cuh>
#include <kvfreeze/gpu/detail/mark_rows.cuh>
#include <kvfreeze/gpu/detail/place_risers.cuh>
#include <kvfreeze/gpu/detail/plan_sinking.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Decides one lane's step on the ladder and fetches what rises, when all masses of the lane
/// are made and counted: decide() by one block, mark() by all when it is done, move() by one when
/// they are.
///
/// Afterwards the lane's slots are the exact rows that attention reads, guests behind them; logits
/// of codes that rise are minus infinity; `plans` says what the slow clock moves.
/// @pre blocks are of CumulativeHistogram::threads, the lane is not dense
template <class C>
struct RankLadder {
  Geometry geometry;
  CacheMemory memory;
  LayerStep<C> step;
  typename C::Scheduler scheduler;
  LadderVerdict* verdicts = nullptr;  ///< [work lane]
  std::uint32_t* marks = nullptr;     ///< [work lane][2][step.stride / 32]

  /// The cuts, and what they are for.
  __device__ void decide(int work, CumulativeHistogram const& masses, LadderStorage& shared) const {
    with_lane(work, shared, [&](LadderLane<C> const& lane) {
      LaneRef<C> const& ref = lane.ref;
      if constexpr (C::by_rank) {
        cut_by_rank(lane, lane_facts(ref, step.layer, lane.where.head, lane.where.step));
      }
      if (threadIdx.x == 0) {
        detail::decide(lane, masses);
      }
      __syncthreads();
      bool const is_whole = ref.lane->mode == LaneMode::dense;
      bool const capped = ref.lane->budget != no_limit && !shared.everything;
      if (!is_whole && capped && threadIdx.x < 32) {
        meet_aim(lane, masses);
      }
      __syncthreads();
      if constexpr (C::by_rank) {
        if (!is_whole && shared.outranked) {
          cut_by_rank(lane, shared.facts);
        }
      }
      bool const looks = step.pass == Pass::look;
      if (!is_whole && looks) {
        forget_stamps(lane);
      }
      if (threadIdx.x == 0) {
        LadderVerdict& verdict = lane.verdict;
        verdict.cuts = shared.cuts;
        verdict.facts = shared.facts;
        verdict.frozen = 0;
        verdict.everything = shared.everything;
        verdict.capped = capped;
        verdict.is_over = is_whole || looks;
        verdict.sink_age = sink_age(lane, capped);
      }
    });
  }

  /// What becomes of each row. By all blocks of the lane.
  __device__ void mark(int work, LanePlace const& place, LadderStorage& shared) const {
    if (verdicts[work].is_over) {
      return;
    }
    with_lane(work, shared, [&](LadderLane<C> const& lane) {
      hear(lane);
      MarkRows<C>(lane, place).run();
    });
  }

  /// What is marked, done.
  __device__ void move(int work, LadderStorage& shared) const {
    if (verdicts[work].is_over) {
      return;
    }
    with_lane(work, shared, [&](LadderLane<C> const& lane) {
      hear(lane);
      if (threadIdx.x == 0) {
        shared.missed = lane.verdict.frozen;  // all have added theirs
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
      // The host leaves larger granules alone in the step that makes their lane whole.
      bool const becomes_whole = C::span > 1 && lane.state().slots < lane.state().rows &&
                                 lane.state().slots + shared.exact == lane.state().rows;
      // Over its aim a lane keeps nothing that it does not need.
      bool const above = lane.verdict.capped && needed_pages<C>(geometry, *lane.ref.lane,
                                                                shared.exact) > lane.ref.lane->aim;
      if (!shared.everything && !becomes_whole && (above || visits(lane, lane.verdict.capped))) {
        plan_sinking(lane, above ? 1 : scheduler.retain(shared.facts).count);
        limit_sinking(lane, risers);
      }
      __syncthreads();
      finish(lane, risers);
    });
  }

 private:
  /// Calls f(lane). By all threads of the block.
  template <class F>
  __device__ void with_lane(int work, LadderStorage& shared, F const& f) const {
    WorkLane const where(geometry, step, work);
    LaneRef<C> const ref(geometry, memory, where.sequence, where.lane);
    std::ptrdiff_t const words = step.stride / 32;
    std::uint32_t* const bits = marks + 2 * words * work;
    LadderLane<C> const lane{ref,  step,   scheduler,      memory.pool, where,
                             work, shared, verdicts[work], bits,        bits + words};
    if (threadIdx.x == 0) {
      shared.runs = lane_runs(ref, step, work);
    }
    __syncthreads();
    f(lane);
  }

  /// What was decided, in the block's memory.
  __device__ void hear(LadderLane<C> const& l) const {
    if (threadIdx.x == 0) {
      l.shared.cuts = l.verdict.cuts;
      l.shared.facts = l.verdict.facts;
      l.shared.everything = l.verdict.everything;
      l.shared.exact = 0;
    }
    __syncthreads();
  }

  /// Where nothing rises again, nothing sinks before it has to.
  __device__ static bool visits(LadderLane<C> const& l, bool capped) {
    return l.state().sinks && (C::rises || !capped);
  }

  /// @brief Age from which rows may sink in this step; under a cap any that the step does not need,
  /// as it is not known yet who has no room.
  __device__ int sink_age(LadderLane<C> const& l, bool capped) const {
    switch (step.pass) {
      case Pass::decode:
        return l.shared.everything ? 0
               : capped            ? 1
               : visits(l, capped) ? max(scheduler.retain(l.shared.facts).count, 1)
                                   : 0;
      case Pass::last_vote:
        return 1;
      default:
        return 0;
    }
  }

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
      // Each of the rows that share a verdict had the mass of all.
      lane.missed = static_cast<float>(shared.missed / C::span) * 0x1p-30F;
      lane.slots = slots + shared.exact;
      lane.guests = risers - shared.exact;
      lane.thawed += static_cast<std::uint32_t>(risers);
      lane.moved_in += static_cast<std::uint64_t>(risers) * geometry.granule_bytes();
      lane.touched = step_bytes(l.ref, true, slots + risers);
      note_attended(geometry, step, l.work, slots + risers);
      // A lane that is whole attends bit for bit as one that no ladder manages.
      bool const whole = slots + risers == lane.rows;
      note_attended(geometry, step, l.work, whole ? 0 : slots, 1);
      for (int head = 0; whole && head < geometry.heads_per_lane; ++head) {
        step.attention[l.work * geometry.heads_per_lane + head].absent = nullptr;
      }
    }
  }
};

}  // namespace kvfreeze::gpu::detail
