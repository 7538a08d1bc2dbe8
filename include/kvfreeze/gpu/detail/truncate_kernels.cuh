#pragma once

/// @file
/// @brief Rows from a position on are forgotten. @see host::cut_lane, host::settle_lane

#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/block_partition.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Rows that are frozen although they are protected: a window and a group at most.
template <class C>
__device__ int owed_rows(LaneRef<C> const& ref) {
  int owed = 0;
  for (int i = ref.open_range().high; i < ref.lane->rows; ++i) {
    owed += is_frozen(ref.states[i]) ? 1 : 0;
  }
  return owed;
}

/// @brief Forgets the rows of a lane from `rows` on, and with them the codes of rows that are
/// protected now; pages go back. One block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void cut_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence, int rows, SequenceState<C>* sequences) {
  __shared__ typename BlockPartition<Threads>::Storage storage;
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  LaneState& lane = *ref.lane;
  int const thread = static_cast<int>(threadIdx.x);
  if (blockIdx.x == 0 && thread == 0) {
    sequences[sequence].length = rows;
  }
  if (rows >= lane.rows) {
    return;
  }
  for (int i = rows + thread; i < lane.rows; i += Threads) {
    if ((ref.states[i] & host::GranuleState::forced) != 0) {
      atomicSub(&lane.forced, 1U);
    }
  }
  BlockPartition<Threads> partition{storage};
  int const kept = partition.run(
      lane.slots,
      [&](int i) {
        return static_cast<int>(ref.record(static_cast<std::uint32_t>(i)).granule) >= rows;
      },
      [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
        move_exact(ref, from, to, warp_lane);
      });
  __syncthreads();
  if (thread == 0) {
    lane.slots = kept;
    lane.rows = rows;
    lane.chunk = 0;
    if constexpr (C::has_digest) {
      lane.groups = rows / C::Digest::group_rows;
    }
  }
  __syncthreads();
  auto const high = static_cast<std::uint32_t>(ref.open_range().high);
  for (int level = 0; level < C::levels; ++level) {
    int const left = partition.run(
        lane.codes[level],
        [&](int i) { return ref.code_granule(level, static_cast<std::uint32_t>(i)) >= high; },
        [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
          move_code(ref, level, from, to, warp_lane);
        });
    __syncthreads();
    drop_codes<C, Threads>(ref, level, left);
  }
  if (lane.budget != no_limit) {  // room for the rows that settle_owed_kernel() brings back
    int const owed = owed_rows(ref);
    std::uint32_t const more = row_pages(g, lane.slots + owed) - row_pages(g, lane.slots);
    __syncthreads();
    give_way<C, Threads>(ref, lane.budget - min(lane.budget, more), storage);
  }
  release_pages(ref, memory.pool);
  find_tail<C, Threads>(ref);
}

/// @brief Rows that cut_kernel() left frozen although they are protected now come back. One block a
/// lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void settle_owed_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence, std::uint32_t const* steps,
    std::uint32_t* status) {
  __shared__ int first;
  __shared__ int owed;
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  LaneState& lane = *ref.lane;
  int const thread = static_cast<int>(threadIdx.x);
  int const high = ref.open_range().high;
  if (thread == 0) {
    owed = owed_rows(ref);
    first = lane.slots;
    if (!grow(ref, memory.pool, rows_segment, first + owed)) {
      atomicOr(status, Status::no_pages);
      owed = 0;
    }
    lane.slots = first + owed;
    auto slot = static_cast<std::uint32_t>(first);
    for (int i = high; i < lane.rows && owed > 0; ++i) {
      std::uint8_t const state = ref.states[i];
      if (!is_frozen(state)) {
        continue;
      }
      lane.forced -= (state & host::GranuleState::forced) != 0 ? 1U : 0U;
      ref.states[i] = thawed(state);
      ref.record(slot++) = {static_cast<std::uint32_t>(i),
                            static_cast<std::uint16_t>(steps[sequence]), 0};
    }
  }
  __syncthreads();
  for (int i = thread / 32; i < owed; i += Threads / 32) {
    auto const slot = static_cast<std::uint32_t>(first + i);
    load_granule(ref, ref.record(slot).granule, slot, thread % 32);
    if constexpr (C::needs_norms) {
      __syncwarp();
      note_key_norm(ref, slot);
    }
  }
  find_tail<C, Threads>(ref);
}

}  // namespace kvfreeze::gpu::detail
