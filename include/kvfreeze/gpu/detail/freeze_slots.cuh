#pragma once

/// @file
/// @brief Exact granules of a lane without compact rows freeze: because nobody wants them, or to
/// make room.

#include <kvfreeze/gpu/detail/block_partition.cuh>
#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/kth_key.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Freezes the granules of some slots; the tier has them, so nothing moves but what packs
/// the others. With a discarding tier they are gone. By one block, which sees the lane's new slots.
///
/// @param goes goes(slot); not asked of a granule that has room for rows, which stays, behind the
/// others
/// @param then then(granule) when it has frozen; true if it sleeps
/// @return how many
template <class C, int Threads, class Goes, class Then>
__device__ int freeze_slots(LaneRef<C> const& ref, std::uint32_t step,
                            typename BlockPartition<Threads>::Storage& storage, Goes const& goes,
                            Then const& then) {
  LaneState& lane = *ref.lane;
  auto const thread = static_cast<int>(threadIdx.x);
  bool const carries = ref.is_filling();
  int const slots = lane.slots - (carries ? 1 : 0);
  BlockPartition<Threads> partition{storage};
  int const kept = partition.run(slots, goes, [&](std::uint32_t from, std::uint32_t to, int own) {
    move_exact(ref, from, to, own);
  });
  __syncthreads();
  std::uint32_t sleepers = 0;
  for (int i = kept + thread; i < slots; i += Threads) {
    std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i)).granule;
    constexpr Fidelity lower = C::discards ? Fidelity::evicted : Fidelity::frozen;
    std::uint8_t const state = host::GranuleState::with(ref.states[granule], lower);
    ref.states[granule] = static_cast<std::uint8_t>(state & ~host::GranuleState::forced);
    ref.changed[granule] = static_cast<std::uint16_t>(step);
    sleepers += then(granule) ? 1U : 0U;
  }
  if (sleepers != 0) {
    atomicAdd(&lane.asleep, sleepers);
  }
  __syncthreads();
  if (carries) {
    carry_newest(ref, static_cast<std::uint32_t>(slots), static_cast<std::uint32_t>(kept));
  }
  int const frozen = slots - kept;
  if (thread == 0) {
    lane.slots -= frozen;
    lane.frozen += static_cast<std::uint32_t>(frozen);
    lane.evicted += C::discards ? frozen : 0;
  }
  __syncthreads();
  return frozen;
}

/// @brief Freezes up to `count` exact granules: those wanted longest ago, then those with the least
/// evidence, then the oldest. By one block, which sees the lane's new slots.
/// @param may may(granule): of those that may freeze, whether it is to
/// @return how many
/// @see host::make_room, host::eviction_rank
template <class C, int Threads, class May>
__device__ int make_room(LaneRef<C> const& ref, int count, std::uint32_t step,
                         typename BlockPartition<Threads>::Storage& storage, May const& may) {
  if (count <= 0) {
    return 0;
  }
  int const slots = ref.lane->slots - (ref.is_filling() ? 1 : 0);
  auto const open = ref.open_range();
  constexpr std::uint64_t stays = std::uint64_t{1} << 56;
  auto const key = [&](int slot) {
    host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(slot));
    if (!ref.may_freeze(record.granule, open) || !may(record.granule)) {
      return stays;
    }
    auto const age = static_cast<std::uint16_t>(step - record.stamp);
    return std::uint64_t{0xFFFFU - age} << 40 | std::uint64_t{record.value} << 24 | record.granule;
  };
  std::uint32_t own = 0;
  for (int i = static_cast<int>(threadIdx.x); i < slots; i += Threads) {
    own += key(i) != stays ? 1U : 0U;
  }
  count = min(count, static_cast<int>(block_sum(own, storage.count)));
  if (count == 0) {
    return 0;
  }
  std::uint64_t const last = kth_key<Threads, 57>(slots, count, key);
  return freeze_slots<C, Threads>(
      ref, step, storage, [&](int slot) { return key(slot) <= last; },
      [](std::uint32_t) { return false; });
}

}  // namespace kvfreeze::gpu::detail
