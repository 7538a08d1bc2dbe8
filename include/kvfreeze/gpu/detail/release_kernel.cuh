#pragma once

/// @file
/// @brief The last launch of a step on the ladder: recoveries begin, pages go back.

#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/force_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/give_way.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Begins the recoveries that triggers asked for: codes go, and rows are first in line to
/// come back. Saves counters at checkpoints; pages that lanes do not need go back to the pool. One
/// block a lane. @see host::recover
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
    // On the ladder rows come back when they matter: what is left to a recovery is everything.
    force_where<C, Threads>(ref, sequence.recovery >= Recovery::full, cell,
                            [](int) { return true; });
    if (threadIdx.x < C::levels) {
      ref.lane->codes[threadIdx.x] = 0;
    }
    __syncthreads();
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
