#pragma once

#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Where a trigger asked for recovery, frozen rows are first in line to come back: all of
/// them, or by the time that they have been away. One block a lane. @see host::recover
/// @param steps [max_sequences] finished steps, this one included
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void force_rows_kernel(
    Geometry g, CacheMemory memory, typename C::Scheduler scheduler, std::uint32_t const* batch,
    std::uint32_t const* steps, SequenceState<C> const* sequences) {
  std::uint32_t const sequence = batch[blockIdx.y];
  Recovery const level = sequences[sequence].recovery;
  if (level == Recovery::none) {
    return;
  }
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  std::uint32_t const now = steps[sequence] - 1U;
  int const period = kvfreeze::detail::slow_period(scheduler);
  int const window = kvfreeze::detail::window_steps(sequences[sequence].trigger);
  std::uint32_t forced = 0;
  for (int i = static_cast<int>(threadIdx.x); i < ref.lane->rows; i += Threads) {
    std::uint8_t const state = ref.states[i];
    if (host::GranuleState::fidelity(state) != Fidelity::frozen ||
        (state & host::GranuleState::forced) != 0) {
      continue;
    }
    auto const since = static_cast<int>(static_cast<std::uint16_t>(now - ref.changed[i]));
    bool const picked = level == Recovery::soft     ? since > period
                        : level == Recovery::window ? since < window
                                                    : true;
    if (picked) {
      ref.states[i] = static_cast<std::uint8_t>(state | host::GranuleState::forced);
      forced += 1;
    }
  }
  if (forced != 0) {
    atomicAdd(&ref.lane->forced, forced);
  }
}

}  // namespace kvfreeze::gpu::detail
