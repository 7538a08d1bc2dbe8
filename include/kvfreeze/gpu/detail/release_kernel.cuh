#pragma once

/// @file
/// @brief The last launch of a step on the ladder: recoveries begin, pages go back.

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/force_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/give_way.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Codes go, sleepers wake, and frozen rows are first in line to come back. By one block.
/// @param forget_counts detections of all rows are forgotten
/// @param cell of shared memory
/// @see host::recover
template <class C, int Threads>
__device__ void recover(LaneRef<C> const& ref, bool forget_counts, std::uint32_t& cell) {
  int const thread = static_cast<int>(threadIdx.x);
  std::uint32_t forced = 0;
  std::uint32_t woken = 0;
  for (int i = thread; i < ref.lane->rows; i += Threads) {
    std::uint8_t state = ref.states[i];
    Fidelity const fidelity = host::GranuleState::fidelity(state);
    if (fidelity == Fidelity::frozen || fidelity == Fidelity::compact ||
        fidelity == Fidelity::asleep) {
      state = host::GranuleState::with(state, Fidelity::frozen);
      forced += (state & host::GranuleState::forced) == 0 ? 1U : 0U;
      woken += fidelity == Fidelity::asleep ? 1U : 0U;
      ref.states[i] = static_cast<std::uint8_t>(state | host::GranuleState::forced);
    }
    if constexpr (C::sleeps) {
      if (forget_counts) {
        ref.timers[i].count = 0;
      }
    }
  }
  forced = block_sum(forced, cell);
  woken = block_sum(woken, cell);
  if (thread == 0) {
    ref.lane->forced += forced;
    ref.lane->asleep -= woken;
  }
  if (thread < C::levels) {
    ref.lane->codes[thread] = 0;
  }
  __syncthreads();
}

/// @brief Begins the recoveries that triggers asked for, and saves counters at checkpoints; pages
/// that lanes do not need go back to the pool. One block a lane.
///
/// Under a byte cap the water level already leaves each lane what fits: to force more would cost
/// codes.
/// @param steps [max_sequences] finished steps, this one included
/// @param reports [max_sequences][2], of which rows that sleep leave the last word to this kernel
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void release_kernel(
    Geometry g, CacheMemory memory, std::uint32_t const* batch, std::uint32_t const* steps,
    SequenceState<C>* sequences, DeviceReport* reports) {
  __shared__ std::uint32_t cell;
  std::uint32_t const index = batch[blockIdx.y];
  SequenceState<C>& sequence = sequences[index];
  LaneRef<C> const ref(g, memory, index, blockIdx.x);
  bool const recovers = sequence.recovery != Recovery::none && g.room == 0;
  if (recovers) {
    recover<C, Threads>(ref, sequence.recovery >= Recovery::full, cell);
  }
  if constexpr (C::saves_counts) {
    for (int i = static_cast<int>(threadIdx.x); sequence.saves && i < ref.granules();
         i += Threads) {
      ref.saved[i] = {ref.timers[i].count, ref.saved[i].newer};
    }
  }
  release_pages(ref, memory.pool);
  if constexpr (C::sleeps && !C::rewalks) {
    std::uint32_t const step = steps[index];
    __syncthreads();
    if (threadIdx.x == 0) {
      end_report<C>(g, ref.lane - blockIdx.x, sequence, reports[2 * index + step % 2], step,
                    recovers);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
