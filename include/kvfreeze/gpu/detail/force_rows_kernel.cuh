#pragma once

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

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

  /// @brief Whom it picks is awake and first in line to come back. By a block.
  /// @param cell of shared memory
  template <int Threads>
  __device__ void force(std::uint32_t& cell) const {
    std::uint32_t forced = 0;
    std::uint32_t woken = 0;
    for (int i = static_cast<int>(threadIdx.x); i < ref.lane->rows; i += Threads) {
      std::uint8_t const state = ref.states[i];
      Fidelity const fidelity = host::GranuleState::fidelity(state);
      if ((fidelity == Fidelity::frozen || fidelity == Fidelity::asleep) && picks(i)) {
        woken += fidelity == Fidelity::asleep ? 1U : 0U;
        forced += (state & host::GranuleState::forced) == 0 ? 1U : 0U;
        ref.states[i] = static_cast<std::uint8_t>(
            host::GranuleState::with(state, Fidelity::frozen) | host::GranuleState::forced);
      }
      if constexpr (C::sleeps) {
        if (level >= Recovery::full) {
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
};

/// @brief A sequence's report gets its last numbers: where there is a recovery, when all its lanes
/// have begun it, by the block that is the last to come.
template <class C>
__device__ void end_report(Geometry const& g, LaneState const* lanes, SequenceState<C>& sequence,
                           DeviceReport& report, std::uint32_t step) {
  bool const changes = sequence.recovery != Recovery::none;
  __threadfence();
  if (changes ? atomicAdd(&sequence.recovered, 1U) + 1U != gridDim.x : blockIdx.x != 0) {
    return;
  }
  __threadfence();
  if (changes) {
    std::uint64_t asleep = 0;
    for (int i = 0; i < g.lanes; ++i) {
      asleep += __ldcg(&lanes[i].asleep);
    }
    report.rows.frozen += report.rows.asleep - asleep;
    report.rows.asleep = asleep;
  }
  __threadfence_system();
  *static_cast<std::uint32_t volatile*>(&report.step) = step;
}

/// @brief Where a trigger asked for recovery, frozen rows are first in line to come back. One block
/// a lane.
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
    RecoveredRows<C>{ref, scheduler, sequence.recovery, step - 1U, window}.template force<Threads>(
        cell);
  }
  if constexpr (C::sleeps) {
    if (threadIdx.x == 0) {
      end_report<C>(g, ref.lane - blockIdx.x, sequence, reports[2 * index + step % 2], step);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
