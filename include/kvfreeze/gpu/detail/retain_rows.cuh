#pragma once

/// @file
/// @brief The slow clock of a lane without compact rows: what the scheduler does not retain
/// freezes.

#include <kvfreeze/gpu/detail/freeze_slots.cuh>
#include <kvfreeze/gpu/detail/lone_scores.cuh>
#include <kvfreeze/gpu/detail/ranked_list.cuh>
#include <kvfreeze/gpu/detail/retain_kernels.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What becomes of an exact row in this step, in the lane's `plans`.
struct RetainPlan {
  static constexpr std::uint8_t stays = 0;
  static constexpr std::uint8_t goes = 1;
  static constexpr std::uint8_t tied = 2;  ///< which of the two its position will say
};

/// Shared memory of the block. Its parts are used one after another.
union RetainRowsStorage {
  RetainSearchStorage search;
  typename RankedList<retain_threads>::Storage list;
  typename BlockPartition<retain_threads>::Storage partition;
};

/// @brief One lane's slow clock. By one block, which calls every function together.
template <class C>
struct RetainRows {
  static constexpr int threads = retain_threads;
  using Open = typename LaneRef<C>::Open;

  LaneRef<C> const& ref;
  typename C::Scheduler const& scheduler;
  typename C::Scorer const& scorer;
  std::uint32_t step;
  Open open;
  RetainRowsStorage& shared;

  /// Calls f(granule, record) for the thread's exact rows that may freeze.
  template <class F>
  __device__ void for_each_open(F const& f) const {
    for (int i = thread(); i < ref.lane->slots; i += threads) {
      host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
      if (is_open(record.granule)) {
        f(record.granule, record);
      }
    }
  }

  /// The scores of the exact rows that may freeze, as RetainSearch asks for them.
  template <class F>
  __device__ void for_each(F const& f) const {
    for_each_open([&](std::uint32_t, host::SlotRecord const& record) {
      f(ranking_score(ref, scorer, record, step, open.high));
    });
  }

  /// @brief Marks in `plans` which exact rows go. @see host::mark_retained, host::list_stale
  __device__ void mark(Selection const& selection) const {
    for (int i = thread(); i < ref.lane->slots; i += threads) {
      ref.plans[ref.record(static_cast<std::uint32_t>(i)).granule] = RetainPlan::stays;
    }
    __syncthreads();
    if (selection.kind == Selection::Kind::recent) {
      auto const limit = static_cast<std::uint32_t>(max(selection.count, 0));
      for_each_open([&](std::uint32_t granule, host::SlotRecord const& record) {
        auto const age = static_cast<std::uint16_t>(step - record.stamp);
        ref.plans[granule] = age >= limit ? RetainPlan::goes : RetainPlan::stays;
      });
    } else {
      list_lone_scores<C, threads>(ref, scorer, step, open.high);
      mark_by_score(retain_edge(selection, *this, shared.search));
    }
    __syncthreads();
  }

  /// @brief Counts a detection or its absence for each exact row that may freeze. A timed scheduler
  /// lets stay what it gives no sleep; the others' wake steps are in their timers.
  /// @see host::list_low
  __device__ void count_detections() const {
    for_each_open([&](std::uint32_t granule, host::SlotRecord const&) {
      bool const low = ref.plans[granule] == RetainPlan::goes;
      int const sleep = detect(ref, scheduler, granule, low, step);
      if (low && kvfreeze::detail::is_timed<typename C::Scheduler>() && sleep == 0) {
        ref.plans[granule] = RetainPlan::stays;
      } else if (low) {
        ref.timers[granule].wake = step + 1U + static_cast<std::uint32_t>(sleep);
      }
    });
    __syncthreads();
  }

  /// Freezes the rows that go.
  __device__ void freeze() const {
    freeze_slots<C, threads>(
        ref, step, shared.partition,
        [&](int slot) {
          return ref.plans[ref.record(static_cast<std::uint32_t>(slot)).granule] ==
                 RetainPlan::goes;
        },
        [&](std::uint32_t granule) {
          if constexpr (C::sleeps && !C::discards) {
            // Absent for its sleep in whole steps; without one the next recall looks at it.
            std::uint32_t const wake = ref.timers[granule].wake;
            if (wake > step + 1U) {
              fall_asleep(ref, granule, wake);
              return true;
            }
          }
          return false;
        });
  }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  [[nodiscard]] __device__ bool is_open(std::uint32_t granule) const {
    auto const at = static_cast<int>(granule);
    return at >= open.low && at < open.high && is_retain_candidate(ref.states[granule]);
  }

  __device__ void mark_by_score(RetainEdge const& edge) const {
    for_each_open([&](std::uint32_t granule, host::SlotRecord const& record) {
      std::uint32_t const key = edge.key(ranking_score(ref, scorer, record, step, open.high));
      bool const tied = key == edge.edge && edge.ties != RetainEdge::all;
      bool const goes = key < edge.edge;
      ref.plans[granule] = tied ? RetainPlan::tied : goes ? RetainPlan::goes : RetainPlan::stays;
    });
    __syncthreads();
    if (edge.ties == RetainEdge::all) {
      return;
    }
    RankedList<threads>::for_each_picked(
        open.high - open.low, shared.list,
        [&](int i) {
          auto const granule = static_cast<std::uint32_t>(open.low + i);
          return is_open(granule) && ref.plans[granule] == RetainPlan::tied;
        },
        [&](int i, int rank) {
          bool const stays = static_cast<std::uint32_t>(rank) < edge.ties;
          ref.plans[open.low + i] = stays ? RetainPlan::stays : RetainPlan::goes;
        });
  }
};

}  // namespace kvfreeze::gpu::detail
