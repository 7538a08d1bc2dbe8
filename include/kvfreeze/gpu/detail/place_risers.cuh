#pragma once

#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/limit_risers.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// A riser's state is that of an exact row, or its plan says what becomes of it.
template <class C>
__device__ void take(LadderLane<C> const& l, Riser r) {
  LaneRef<C> const& ref = l.ref;
  bool const stays = static_cast<int>(r.level) == l.exact_level;
  std::uint8_t const leaves = r.from_pool != 0 ? Plan::leaves_pool : 0;
  std::uint8_t const goes =
      stays ? 0 : static_cast<std::uint8_t>(Plan::guest | Plan::to(static_cast<int>(r.level)));
  ref.plans[r.granule] = static_cast<std::uint8_t>(leaves | goes);
  std::uint8_t const state = ref.states[r.granule];
  if ((state & host::GranuleState::forced) != 0) {
    atomicSub(&ref.lane->forced, 1U);
  }
  // A guest's fidelity is that of before until the slow clock has coded it.
  Fidelity const fidelity = stays ? Fidelity::exact : host::GranuleState::fidelity(state);
  ref.states[r.granule] = host::GranuleState::with(thawed(state), fidelity);
}

/// Rows that rise are attended as they are: the weights and masses that digests gave them do not
/// count.
template <class C>
__device__ void sum_risers(LadderLane<C> const& l, int risers) {
  LaneRuns const& runs = l.runs();
  int const heads = l.heads();
  for (int i = static_cast<int>(threadIdx.x); i < risers * heads; i += l.threads) {
    Riser const r = l.riser(i / heads);
    int const h = i % heads;
    if (r.from_pool == 0 && r.level != 0) {
      if (h == 0) {
        Mass const mass = l.mass(LaneRuns::digests, static_cast<int>(r.granule));
        atomicAdd(&l.shared.missed, 0ULL - mass);
      }
      float const logit = __ldcg(runs.logits + h * runs.stride + r.granule);
      float const highest = __ldcg(l.step.highest + l.work * heads + h);
      float const weight = softmax_weight(logit, minus_reference(highest));
      atomicAdd(&l.shared.weights[h], static_cast<unsigned long long>(weight));
    }
  }
  __syncthreads();
}

/// @brief Gives risers their slots, exact ones first and guests behind them, and loads their rows.
/// Those whose rows, or for which pages or transfers are missing, wait, first in line at the next
/// step.
/// @param asked risers that are listed
/// @return how many rose
template <class C>
__device__ int place_risers(LadderLane<C> const& l, int asked) {
  using List = RankedList<LadderLane<C>::threads>;
  LaneState& lane = l.state();
  LadderStorage& shared = l.shared;
  int const thread = static_cast<int>(threadIdx.x);
  int const slots = lane.slots;
  int const risers = limit_risers(l, asked, risers_here(l, asked));
  if (thread == 0) {
    shared.placed = grow(l.ref, l.pool, rows_segment, slots + risers);
  }
  if (thread < l.heads()) {
    shared.weights[thread] = 0;
  }
  __syncthreads();
  if (!shared.placed) {
    for (int i = thread; i < asked; i += l.threads) {
      l.ref.states[l.riser(i).granule] |= host::GranuleState::carried;
    }
    if (thread == 0) {
      lane.deferred += static_cast<std::uint32_t>(risers);
    }
    __syncthreads();
    return 0;
  }
  int placed = 0;
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    bool const to_exact = group == 0;
    placed = List::for_each(
        asked, placed, shared.list,
        [&](int first, int n) {
          unsigned goes = 0;
          for (int j = 0; j < n; ++j) {
            auto const level = static_cast<int>(l.riser(first + j).level);
            goes |= level > 0 && (level == l.exact_level) == to_exact ? 1U << j : 0U;
          }
          return goes;
        },
        [&](int i, int rank) {
          l.ref.record(static_cast<std::uint32_t>(slots + rank)) = {
              l.riser(i).granule, static_cast<std::uint16_t>(l.where.step), 0};
        });
    if (to_exact && thread == 0) {
      shared.exact = placed;
    }
  }
  for (int i = thread; i < asked; i += l.threads) {
    if (Riser const r = l.riser(i); r.level != 0) {
      take(l, r);
    }
  }
  __syncthreads();
  for (int i = thread / 32; i < risers; i += l.threads / 32) {
    auto const slot = static_cast<std::uint32_t>(slots + i);
    load_granule(l.ref, l.ref.record(slot).granule, slot, thread % 32);
  }
  sum_risers(l, asked);
  return risers;
}

/// @brief Codes of rows that rose are not attended beside the rows themselves, and leave.
/// @param asked risers that are listed
template <class C>
__device__ void hide_risen_codes(LadderLane<C> const& l, int asked) {
  LaneRuns const& runs = l.runs();
  for (int i = static_cast<int>(threadIdx.x); i < asked; i += l.threads) {
    Riser const r = l.riser(i);
    if ((l.ref.plans[r.granule] & Plan::leaves_pool) != 0) {
      CodePlace const place = l.code_place(r.granule);
      l.ref.mark_leaving(static_cast<int>(place.level), place.slot);
      float* const logits =
          runs.coded.row(runs.first_coded(static_cast<int>(place.level)) + place.slot);
      for (int h = 0; h < l.heads(); ++h) {
        logits[h] = minus_infinity();
      }
    }
  }
}

}  // namespace kvfreeze::gpu::detail
