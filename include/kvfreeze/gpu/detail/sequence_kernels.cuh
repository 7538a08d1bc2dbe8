#pragma once

/// @file
/// @brief Sequences come and go.

#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Values that fit a launch's arguments.
template <class T>
struct ValuePart {
  static constexpr int most = 512;

  T value[most];
  int count = 0;
};

/// @brief Calls launch(part, first) for pieces of so many values, value(i) each, of which `first`
/// is the number of the first one.
template <class T, class Value, class Launch>
void for_value_parts(std::size_t values, Value const& value, Launch const& launch) {
  constexpr std::size_t most = ValuePart<T>::most;
  for (std::size_t first = 0; first < values; first += most) {
    ValuePart<T> part;
    part.count = static_cast<int>(std::min(values - first, most));
    for (int i = 0; i < part.count; ++i) {
      part.value[i] = value(first + static_cast<std::size_t>(i));
    }
    launch(part, first);
  }
}

template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void set_batch_kernel(
    std::uint32_t* batch, __grid_constant__ ValuePart<std::uint32_t> const part) {
  if (static_cast<int>(threadIdx.x) < part.count) {
    batch[threadIdx.x] = part.value[threadIdx.x];
  }
}

template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void set_shares_kernel(
    LaneState* lanes, __grid_constant__ ValuePart<float> const part) {
  if (static_cast<int>(threadIdx.x) < part.count) {
    lanes[threadIdx.x].share = part.value[threadIdx.x];
  }
}

/// All pages are free.
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void fill_pool_kernel(
    PagePool pool, std::int32_t pages) {
  auto const i = static_cast<std::int32_t>(blockIdx.x * Threads + threadIdx.x);
  if (i < pages) {
    pool.free_list[i] = static_cast<std::uint32_t>(i);
  }
  if (i == 0) {
    *pool.free_count = pages;
  }
}

/// An empty sequence. One block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void open_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence, std::uint32_t* steps,
    SequenceState<C>* sequences, typename C::Trigger trigger) {
  std::size_t const number =
      static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.lanes) + blockIdx.x;
  for (int d = static_cast<int>(threadIdx.x); d < g.row_elements; d += Threads) {
    memory.importance[number * static_cast<std::size_t>(g.row_elements) +
                      static_cast<std::size_t>(d)] = 0.0F;
    memory.means[number * static_cast<std::size_t>(g.row_elements) + static_cast<std::size_t>(d)] =
        0.0F;
  }
  if constexpr (C::has_levels) {
    int const words = C::levels * leaving_words(g);
    for (int i = static_cast<int>(threadIdx.x); i < words; i += Threads) {
      memory.leaving[number * static_cast<std::size_t>(words) + static_cast<std::size_t>(i)] = 0;
    }
  }
  if constexpr (C::needs_cosine) {
    int const elements = g.lane_queries * g.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < elements; i += Threads) {
      memory.previous[number * static_cast<std::size_t>(elements) + static_cast<std::size_t>(i)] =
          0.0F;
    }
  }
  if constexpr (C::rates) {
    std::size_t const floats = moment_floats(g);
    for (std::size_t i = threadIdx.x; i < floats; i += Threads) {
      memory.moments[number * floats + i] = 0.0F;
    }
  }
  if (threadIdx.x == 0) {
    LaneState lane;
    if (g.room != 0) {
      lane.budget = lane.aim = g.room / static_cast<std::uint32_t>(g.lanes);
    }
    if (g.limits_transfers) {
      lane.allotment = g.transfers / C::span / static_cast<std::uint32_t>(g.lanes) * C::span;
    }
    memory.lanes[number] = lane;
  }
  if (threadIdx.x == 0 && blockIdx.x == 0) {
    steps[sequence] = 0;
    SequenceState<C> state{};
    state.trigger = trigger;
    state.trigger.reset();
    sequences[sequence] = state;
    if constexpr (C::needs_entropy) {
      memory.mean_entropy[sequence] = 0.0F;
    }
  }
}

/// A sequence's pages go back. One thread a lane.
template <class C>
__global__ __attribute__((visibility("hidden"))) void close_kernel(Geometry g, CacheMemory memory,
                                                                   std::uint32_t sequence) {
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  for (int segment = 0; segment < pool_segment(C::levels); ++segment) {
    shrink(ref, memory.pool, segment, 0);
  }
}

}  // namespace kvfreeze::gpu::detail
