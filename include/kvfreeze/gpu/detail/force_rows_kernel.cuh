#pragma once

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Rows that are away and picked are awake and first in line to come back; codes do not
/// count. By one block. @see host::force_where
/// @param forget_counts detections of all rows are forgotten
/// @param cell of shared memory
/// @param picks picks(granule)
template <class C, int Threads, class Picks>
__device__ void force_where(LaneRef<C> const& ref, bool forget_counts, std::uint32_t& cell,
                            Picks const& picks) {
  std::uint32_t forced = 0;
  std::uint32_t woken = 0;
  for (int i = static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
    std::uint8_t const state = ref.states[i];
    Fidelity const fidelity = host::GranuleState::fidelity(state);
    bool const away = fidelity == Fidelity::frozen || fidelity == Fidelity::asleep ||
                      (C::has_levels && fidelity == Fidelity::compact);
    if (away && picks(i)) {
      woken += fidelity == Fidelity::asleep ? 1U : 0U;
      forced += (state & host::GranuleState::forced) == 0 ? 1U : 0U;
      ref.states[i] = static_cast<std::uint8_t>(host::GranuleState::with(state, Fidelity::frozen) |
                                                host::GranuleState::forced);
    }
    if constexpr (C::sleeps) {
      if (forget_counts) {
        ref.timers[i].count = 0;
      }
    }
  }
  forced = block_sum(forced, cell);
  woken = block_sum(woken, cell);
  if (threadIdx.x == 0) {
    ref.lane->forced += forced;
    ref.lane->asleep -= woken;
  }
}

/// @brief Whom a recovery brings back: all, or by the time that they have been away or sleep.
/// @see host::recover
template <class C>
struct RecoveredRows {
  LaneRef<C> const& ref;
  typename C::Scheduler const& scheduler;
  Recovery level;
  std::uint32_t now;
  int window_steps;

  [[nodiscard]] __device__ bool picks(int granule) const {
    auto const since = static_cast<int>(static_cast<std::uint16_t>(now - ref.changed[granule]));
    switch (level) {
      case Recovery::soft:
        if constexpr (C::sleeps) {
          return scheduler.sleep(ref.timers[granule].count) > 1;
        } else {
          return since > kvfreeze::detail::slow_period(scheduler);
        }
      case Recovery::window:
        return since < window_steps;
      default:
        return true;
    }
  }
};

/// Counts the rows and pages of a sequence whose lanes other blocks have changed. By one thread.
template <class C>
__device__ void recount(Geometry const& g, LaneState const* lanes, DeviceReport& report) {
  RowCounts rows;
  std::uint64_t all = 0;
  std::uint64_t pages[pool_segment(C::levels)] = {};
  for (int i = 0; i < g.lanes; ++i) {
    LaneState lane;
    lane.rows = __ldcg(&lanes[i].rows);
    lane.slots = __ldcg(&lanes[i].slots);
    for (int level = 0; level < C::levels; ++level) {
      lane.codes[level] = __ldcg(&lanes[i].codes[level]);
      rows.compact += static_cast<std::uint64_t>(lane.codes[level]);
    }
    for (int s = 0; s < pool_segment(C::levels); ++s) {
      lane.pages[s] = __ldcg(&lanes[i].pages[s]);
      pages[s] += kept_pages<C>(g, lane, s);
    }
    rows.exact += static_cast<std::uint64_t>(exact_rows<C>(lane));
    rows.asleep += static_cast<std::uint64_t>(__ldcg(&lanes[i].asleep)) * C::page;
    rows.evicted += static_cast<std::uint64_t>(__ldcg(&lanes[i].evicted)) * C::page;
    all += static_cast<std::uint64_t>(lane.rows);
  }
  rows.frozen = all - rows.exact - rows.compact - rows.asleep - rows.evicted;
  report.rows = rows;
  for (int s = 0; s < pool_segment(C::levels); ++s) {
    report.pages[s] = pages[s];
  }
}

/// @brief A sequence's report gets its last numbers, and is there. By a thread of each lane's
/// block.
/// @param changes does this launch change lanes? Then the last one to come counts
template <class C>
__device__ void end_report(Geometry const& g, LaneState const* lanes, SequenceState<C>& sequence,
                           DeviceReport& report, std::uint32_t step, bool changes) {
  __threadfence();
  if (changes ? atomicAdd(&sequence.recovered, 1U) + 1U != gridDim.x : blockIdx.x != 0) {
    return;
  }
  __threadfence();
  if (sequence.recovery != Recovery::none) {
    recount<C>(g, lanes, report);
  }
  __threadfence_system();
  *static_cast<std::uint32_t volatile*>(&report.step) = step;
}

/// @brief Where a trigger asked for recovery, frozen rows are first in line to come back; counters
/// are saved at checkpoints. One block a lane.
/// @param steps [max_sequences] finished steps, this one included
/// @param reports [max_sequences][2], of which rows that sleep leave the last word to this kernel
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void force_rows_kernel(
    Geometry g, CacheMemory memory, typename C::Scheduler scheduler, std::uint32_t const* batch,
    std::uint32_t const* steps, SequenceState<C>* sequences, DeviceReport* reports) {
  __shared__ std::uint32_t cell;
  std::uint32_t const index = batch[blockIdx.y];
  SequenceState<C>& sequence = sequences[index];
  std::uint32_t const step = steps[index];
  LaneRef<C> const ref(g, memory, index, blockIdx.x);
  if (sequence.recovery != Recovery::none) {
    int const window = kvfreeze::detail::window_steps(sequence.trigger);
    RecoveredRows<C> const rows{ref, scheduler, sequence.recovery, step - 1U, window};
    force_where<C, Threads>(ref, sequence.recovery >= Recovery::full, cell,
                            [&](int granule) { return rows.picks(granule); });
  }
  if constexpr (C::saves_counts) {
    for (int i = static_cast<int>(threadIdx.x); sequence.saves && i < ref.granules();
         i += Threads) {
      ref.saved[i] = {ref.timers[i].count, ref.saved[i].newer};
    }
  }
  if constexpr (C::sleeps && !C::rewalks) {
    if (threadIdx.x == 0) {
      end_report<C>(g, ref.lane - blockIdx.x, sequence, reports[2 * index + step % 2], step,
                    sequence.recovery != Recovery::none);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
