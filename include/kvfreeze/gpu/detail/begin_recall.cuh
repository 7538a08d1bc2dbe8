#pragma once

#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/lane_moments.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/selection.hpp>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// A granule begins with an empty counter and score. By one thread.
template <class C>
__device__ void forget_granule(LaneRef<C> const& ref, std::uint32_t granule) {
  if constexpr (C::sleeps) {
    ref.timers[granule] = {};
  }
  if constexpr (C::saves_counts) {
    ref.saved[granule] = {};
  }
  if constexpr (C::has_state) {
    ref.scores[granule] = {};
  }
}

/// @brief What is counted of a new granule: nothing yet, or what is of those that share its verdict
/// and were there before. By one thread.
/// @param before granules that the lane had
template <class C>
__device__ void begin_granule(LaneRef<C> const& ref, std::uint32_t granule, int before) {
  if constexpr (C::span > 1) {
    int const first = ref.first_of_span(static_cast<int>(granule));
    if (first < before) {
      if constexpr (C::sleeps) {
        ref.timers[granule] = ref.timers[first];
      }
      if constexpr (C::saves_counts) {
        ref.saved[granule] = ref.saved[first];
      }
      return;
    }
  }
  forget_granule(ref, granule);
}

/// @brief Step at which a new granule counts as needed: this one, or that of those that share its
/// verdict and were there before. They are in the tail, as no group of digests is whole with them.
template <class C>
__device__ std::uint16_t newborn_stamp(LaneRef<C> const& ref, std::uint32_t granule, int before,
                                       std::uint32_t step) {
  if constexpr (C::span > 1) {
    int const first = ref.first_of_span(static_cast<int>(granule));
    if (first < before) {
      return ref.record_at(ref.lane->tail[first - ref.tail_begin()]).stamp;
    }
  }
  return static_cast<std::uint16_t>(step);
}

/// What is kept of the new row and its queries: a counter, a score, a sum, the queries themselves.
template <class C, int Threads>
__device__ void note_newborn(LaneRef<C> const& ref, float const* query) {
  LaneState const& lane = *ref.lane;
  bool const first = threadIdx.x == 0;
  int const row = (lane.rows - 1) % C::page;
  auto const slot = static_cast<std::uint32_t>(lane.slots - 1);
  if (first && row == 0) {
    forget_granule(ref, static_cast<std::uint32_t>((lane.rows - 1) / C::page));
  }
  if constexpr (C::needs_norms) {
    if (threadIdx.x < 32) {
      note_key_norm(ref, slot);
    }
  }
  if constexpr (C::rates) {
    note_direction<C, Threads>(
        ref, ref.k(slot) + static_cast<std::ptrdiff_t>(row) * ref.geometry->row_elements);
  }
  if constexpr (C::needs_queries) {
    if (first) {
      ref.sum(slot, row) = 0;
    }
    float* const kept = ref.query_of(lane.rows - 1);
    int const elements = ref.geometry->lane_queries * ref.geometry->head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < elements; i += Threads) {
      kept[i] = query[i];
    }
  }
}

/// @brief Says how the step of a lane without compact rows will go. By the lane's block, when the
/// step's row is there. @see host::recall_lane
template <class C, int Threads>
__device__ void begin_recall(LaneRef<C> const& ref, LayerStep<C> const& s,
                             typename C::Scheduler const& scheduler, WorkLane const& work) {
  int const elements = ref.geometry->lane_queries * ref.geometry->head_dim;
  note_newborn<C, Threads>(ref, s.queries + static_cast<std::ptrdiff_t>(blockIdx.x) * elements);
  if constexpr (C::sleeps) {
    wake_due<C, Threads>(ref, work.step);
  }
  if (threadIdx.x != 0) {
    return;
  }
  LaneState& lane = *ref.lane;
  bool ranks = lane.slots < ref.granules() - lane.evicted;
  if constexpr (C::has_digest) {
    // With nothing frozen a scan serves a scorer's memory, and tells what may freeze.
    auto const open = ref.open_range();
    LaneFacts const facts = lane_facts(ref, s.layer, work.head, work.step);
    ranks = ranks || C::has_state ||
            (open.low < open.high && scheduler.recall(facts).kind != Selection::Kind::all);
  }
  lane.mode = ranks ? LaneMode::ranked : LaneMode::dense;
}

/// @brief Describes the rows that no digest holds yet, for exact_logits_async(): digests stand for
/// all others, so that the logits of these come behind, in the order of positions. By one thread,
/// when the lane is described.
template <class C>
__device__ void describe_tail(LaneRef<C> const& ref, LayerStep<C> const& s, int work) {
  LaneState const& lane = *ref.lane;
  Geometry const& g = *ref.geometry;
  bool const ranks = lane.mode != LaneMode::dense;
  int const first = ref.tail_row();
  float* const logits = lane_runs(ref, s, work).logits + first;
  for (int head = 0; head < g.heads_per_lane; ++head) {
    int const at = work * g.heads_per_lane + head;
    typename LayerStep<C>::Lane tail = s.attention[at];
    tail.rows.slots = lane.tail;
    tail.rows.slot_shift = 0;
    tail.logits = logits + static_cast<std::ptrdiff_t>(head) * g.group * s.stride;
    s.tails[at] = tail;
    s.ranked_rows[at] = ranks ? static_cast<std::uint32_t>(lane.rows - first) : 0U;
  }
}

}  // namespace kvfreeze::gpu::detail
