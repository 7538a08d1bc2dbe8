#pragma once

/// @file
/// @brief What a lane's step wants exact and has not: fetched from the tier before attention.

#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/freeze_slots.cuh>
#include <kvfreeze/gpu/detail/ladder_rank.cuh>
#include <kvfreeze/gpu/detail/query_window.cuh>
#include <kvfreeze/gpu/detail/ranked_list.cuh>
#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>

#include <cstdint>
#include <type_traits>

namespace kvfreeze::gpu::detail {

/// Shared memory for rows that come: of caches that keep sums of |q.k|.
template <class C>
using FetchStorage = std::conditional_t<C::needs_queries, QueryStage, char>;

/// Shared memory of the block.
template <class C, int Threads>
struct ThawStorage {
  union {
    typename RankedList<Threads>::Storage list;
    typename BlockPartition<Threads>::Storage partition;
    FetchStorage<C> fetch;
  };

  unsigned long long missed;
  std::uint32_t placed;  ///< were there pages?
  int here;              ///< granules of the list that are in pinned memory
};

/// Upper half of a non-negative float, as host::coarse: what a slot record keeps of its mass.
__device__ inline std::uint16_t coarse(Mass mass) {
  return static_cast<std::uint16_t>(static_cast<std::uint32_t>(__float_as_int(mass_of(mass))) >>
                                    16);
}

/// @brief Notes on each slot that a step wants its granule, and the granule's mass. By a block.
/// @param scores by granule, as recall had them
/// @param keep_from as in RecallResult
/// @see host::stamp_wanted
template <class C, int Threads>
__device__ void stamp_wanted(LaneRef<C> const& ref, LaneRuns const& runs,
                             std::uint32_t const* scores, std::uint32_t keep_from,
                             std::uint32_t step) {
  for (int i = static_cast<int>(threadIdx.x); i < ref.lane->slots; i += Threads) {
    host::SlotRecord record = ref.record(static_cast<std::uint32_t>(i));
    if (ref.plans[record.granule] != 0 || scores[record.granule] >= keep_from) {
      record.stamp = static_cast<std::uint16_t>(step);
    }
    if constexpr (C::needs_mass) {
      record.value = coarse(runs.masses[record.granule]);
    }
    ref.record(static_cast<std::uint32_t>(i)) = record;
  }
}

/// @brief Granules come from the tier into slots, where their records are; what these and sums hold
/// of their keys is made again. By a block.
/// @param end the query window's, as in rebuild_sums()
/// @param stage used if sums are kept
template <class C, int Threads>
__device__ void fetch_granules(LaneRef<C> const& ref, SlotRange slots, int end,
                               FetchStorage<C>& stage) {
  int const thread = static_cast<int>(threadIdx.x);
  for (int i = slots.begin + thread / 32; i < slots.end; i += Threads / 32) {
    auto const slot = static_cast<std::uint32_t>(i);
    load_granule(ref, ref.record(slot).granule, slot, thread % 32);
    if constexpr (C::needs_norms) {
      __syncwarp();
      note_key_norm(ref, slot);
    }
  }
  if constexpr (C::needs_queries) {
    rebuild_sums<C, Threads>(ref, slots, end, stage);
  }
}

/// @brief One lane's thaw. By one block, which calls every function together.
template <class C, int Threads>
struct ThawLane {
  Geometry const& geometry;
  LaneRef<C> const& ref;
  WorkLane const& where;
  LaneRuns const& runs;
  ThawStorage<C, Threads>& shared;

  /// @brief Lists what thaws where no digest says what is wanted: everything or, of frozen rows,
  /// those that must. @return how many
  __device__ int list_without_digests(bool everything) const {
    return RankedList<Threads>::for_each_picked(
        ref.granules(), shared.list,
        [&](int i) {
          std::uint8_t const state = ref.states[i];
          constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
          return is_frozen(state) && (everything || (state & must) != 0);
        },
        [&](int i, int rank) { runs.granules[rank] = static_cast<std::uint32_t>(i); });
  }

  /// @brief What of a list the lane's budgets hold. Exact granules make way for it; of what does
  /// not fit the cap the end of the list waits. @see host::thaw_wanted
  /// @param may may(granule): is it to make way?
  /// @return how many, from the front of the list
  template <class May>
  __device__ int fit(int count, std::int32_t allowed, May const& may) const {
    if (ref.lane->budget == no_limit) {
      return count;
    }
    make_room<C, Threads>(ref, ref.lane->slots + count - allowed, where.step, shared.partition,
                          may);
    int const fits = min(count, max(allowed - ref.lane->slots, 0));
    if (thread() == 0) {
      ref.lane->deferred += static_cast<std::uint32_t>(count - fits);
      ref.lane->over_cap = ref.lane->over_cap || fits < count;
    }
    return fits;
  }

  /// @brief As many of a list without digests as the transfer budget pays for; the others are first
  /// in line at the next step. @return how many, from the front of the list
  __device__ int afford(int count) const {
    auto const most = static_cast<int>(min(ref.lane->allotment, static_cast<std::uint32_t>(count)));
    for (int i = most + thread(); i < count; i += Threads) {
      ref.states[runs.granules[i]] |= host::GranuleState::carried;
    }
    if (thread() == 0 && count > most) {
      ref.lane->deferred += static_cast<std::uint32_t>(count - most);
    }
    __syncthreads();
    return most;
  }

  /// @brief Leaves those on the list that are in pinned memory, in order; the others are fetched,
  /// and first in line at the next step. @return how many
  __device__ int keep_here(int count) const {
    if constexpr (C::spills) {
      constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
      if (thread() < 32) {
        int kept = 0;
        for (int first = 0; first < count; first += 32) {
          int const i = first + thread();
          std::uint32_t const granule = i < count ? runs.granules[i] : 0U;
          bool const is_here = i < count && ref.is_here(granule, (ref.states[granule] & must) != 0);
          unsigned const here = __ballot_sync(0xFFFFFFFFU, is_here);
          if (is_here) {
            runs.granules[kept + __popc(here & ((1U << thread()) - 1U))] = granule;
          } else if (i < count) {
            ref.states[granule] |= host::GranuleState::carried;
          }
          kept += __popc(here);
        }
        if (thread() == 0) {
          ref.lane->deferred += static_cast<std::uint32_t>(count - kept);
          shared.here = kept;
        }
      }
      __syncthreads();
      count = shared.here;
    }
    return count;
  }

  /// @brief Gives the listed granules slots at the end of the lane, but before a granule that has
  /// room for rows, and loads their rows. Where the pool has no pages for them they wait, first in
  /// line at the next step.
  /// @return how many came
  __device__ int thaw(PagePool const& pool, int count) const {
    LaneState& lane = *ref.lane;
    int const slots = lane.slots;
    if (thread() == 0) {
      shared.placed = C::in_place || grow(ref, pool, rows_segment, slots + count) ? 1 : 0;
    }
    __syncthreads();
    if (shared.placed == 0) {
      for (int i = thread(); i < count; i += Threads) {
        ref.states[runs.granules[i]] |= host::GranuleState::carried;
      }
      if (thread() == 0) {
        lane.deferred += static_cast<std::uint32_t>(count);
      }
      return 0;
    }
    int const first = slots - (ref.is_filling() ? 1 : 0);
    if (first < slots && count > 0) {
      carry_newest(ref, static_cast<std::uint32_t>(first),
                   static_cast<std::uint32_t>(first + count));
    }
    for (int i = thread(); i < count; i += Threads) {
      take(runs.granules[i], static_cast<std::uint32_t>(first + i));
    }
    __syncthreads();
    fetch_granules<C, Threads>(ref, {first, first + count}, lane.rows - 1, shared.fetch);
    __syncthreads();
    return count;
  }

  /// The mass that attention does not see.
  __device__ void note_missed() const {
    if (thread() == 0) {
      shared.missed = 0;
    }
    __syncthreads();
    std::uint64_t missed = 0;
    for (int i = thread(); i < ref.granules(); i += Threads) {
      missed += is_frozen(ref.states[i]) ? runs.masses[i] : 0U;
    }
    missed = warp_sum(missed);
    if (thread() % 32 == 0) {
      atomicAdd(&shared.missed, static_cast<unsigned long long>(missed));
    }
    __syncthreads();
  }

  /// The scorer's memory of all rows that were asked takes their masses in.
  __device__ void update_scores(typename C::Scorer const& scorer) const {
    for (int i = thread(); i < ref.granules(); i += Threads) {
      Fidelity const fidelity = host::GranuleState::fidelity(ref.states[i]);
      if (fidelity == Fidelity::exact || fidelity == Fidelity::frozen) {
        update_score(ref, scorer, static_cast<std::uint32_t>(i), where.step, runs.masses[i]);
      }
    }
  }

  /// The lane's numbers, and what attention reads.
  __device__ void finish(LayerStep<C> const& step, int work, int thawed) const {
    if (thread() != 0) {
      return;
    }
    LaneState& lane = *ref.lane;
    lane.slots += thawed;
    lane.thawed += static_cast<std::uint32_t>(thawed);
    if constexpr (C::stores) {
      lane.moved_in += static_cast<std::uint64_t>(thawed) * geometry.granule_bytes();
    }
    int const rows = exact_rows<C>(lane);
    lane.touched = step_bytes(ref, C::has_digest, rows);
    note_attended(geometry, step, work, rows);
  }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  /// A granule's state and record as it becomes exact.
  __device__ void take(std::uint32_t granule, std::uint32_t slot) const {
    std::uint16_t value = 0;
    if constexpr (C::recalls && C::needs_mass) {
      value = coarse(runs.masses[granule]);
    }
    if constexpr (C::in_place) {
      ref.list[slot] = granule;
    }
    ref.record(slot) = {granule, static_cast<std::uint16_t>(where.step), value};
    std::uint8_t const state = ref.states[granule];
    if ((state & host::GranuleState::forced) != 0) {
      atomicSub(&ref.lane->forced, 1U);
    }
    ref.states[granule] = thawed(state);
  }
};

}  // namespace kvfreeze::gpu::detail
