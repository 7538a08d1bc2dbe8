#pragma once

/// @file
/// @brief Which rows of a sequence the caller keeps exact.

#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/types.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Pinned ranges that fit a launch's arguments, ascending.
struct PinPart {
  static constexpr int most = 256;

  TokenRange range[most];
  int count = 0;
};

/// A thread a word of the sequence's bits.
/// @param first the part replaces what was pinned before
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void set_pins_kernel(
    std::uint32_t* pins, int words, bool first, __grid_constant__ PinPart const part) {
  int const word = static_cast<int>(blockIdx.x * Threads + threadIdx.x);
  if (word >= words) {
    return;
  }
  if (word == 0) {
    pins[0] = (first ? 0U : pins[0]) + static_cast<std::uint32_t>(part.count);
    return;
  }
  std::uint32_t bits = first ? 0U : pins[word];
  int const begin = (word - 1) * 32;
  for (int i = 0; i < part.count; ++i) {
    int const low = max(part.range[i].begin - begin, 0);
    int const high = min(part.range[i].end - begin, 32);
    if (low < high) {
      bits |= (high == 32 ? ~0U : (1U << high) - 1U) & (~0U << low);
    }
  }
  pins[word] = bits;
}

/// @brief Flags the granules with such rows; those that are frozen or sleep are first in line to
/// come back. One block a lane. @see host::force_where
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void pin_rows_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence) {
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  for (int i = static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
    auto const granule = static_cast<std::uint32_t>(i);
    std::uint8_t const before = ref.states[i];
    auto state = static_cast<std::uint8_t>(before & ~host::GranuleState::pinned);
    if (ref.is_pinned(granule * C::page, ref.rows_of(granule))) {
      state |= host::GranuleState::pinned;
      if (C::sleeps && host::GranuleState::fidelity(state) == Fidelity::asleep) {
        state = host::GranuleState::with(state, Fidelity::frozen);
        atomicSub(&ref.lane->asleep, 1U);
      }
      if (host::GranuleState::fidelity(state) == Fidelity::frozen &&
          (state & host::GranuleState::forced) == 0) {
        state |= host::GranuleState::forced;
        atomicAdd(&ref.lane->forced, 1U);
      }
    }
    ref.states[i] = state;
  }
}

}  // namespace kvfreeze::gpu::detail
