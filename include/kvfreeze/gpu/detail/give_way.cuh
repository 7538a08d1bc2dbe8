#pragma once

/// @file
/// @brief Where a lane holds more than its budget: codes go first, then exact rows that may freeze.
/// The tier has them all, so that nothing moves.

#include <kvfreeze/gpu/detail/block_partition.cuh>
#include <kvfreeze/gpu/detail/kth_key.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/page_plan.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Codes of a level from `kept` on freeze.
template <class C, int Threads>
__device__ void drop_codes(LaneRef<C> const& ref, int level, int kept) {
  for (int i = kept + static_cast<int>(threadIdx.x); i < ref.lane->codes[level]; i += Threads) {
    ref.freeze(ref.code(level, static_cast<std::uint32_t>(i)).granule());
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ref.lane->codes[level] = min(kept, ref.lane->codes[level]);
  }
  __syncthreads();
}

/// @brief Puts so many codes of a level before the others that of rows with one verdict all are
/// among them or none. By one block.
/// @param kept at most
/// @return how many there are: those of the newest rows
template <class C, int Threads>
__device__ int whole_codes(LaneRef<C> const& ref, int level, int kept,
                           typename BlockPartition<Threads>::Storage& storage) {
  int const codes = ref.lane->codes[level];
  if constexpr (C::span == 1) {
    return min(kept, codes);
  }
  if (kept >= codes) {
    return codes;
  }
  auto const granule_at = [&](int i) {
    return ref.code(level, static_cast<std::uint32_t>(i)).granule();
  };
  auto const newest = static_cast<std::uint32_t>(
      kth_key<Threads, 24>(codes, codes - kept, [&](int i) { return granule_at(i); }));
  std::uint32_t const last = newest | (C::span - 1U);  // what goes with it
  BlockPartition<Threads> partition{storage};
  int const left = partition.run(
      codes, [&](int i) { return granule_at(i) <= last; },
      [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
        move_code(ref, level, from, to, warp_lane);
      });
  __syncthreads();
  return left;
}

/// All exact rows that may freeze do.
template <class C, int Threads>
__device__ void drop_exact(LaneRef<C> const& ref,
                           typename BlockPartition<Threads>::Storage& storage) {
  LaneState& lane = *ref.lane;
  auto const open = ref.open_range();
  auto const granule_at = [&](int i) { return ref.record(static_cast<std::uint32_t>(i)).granule; };
  int const slots = lane.slots;
  BlockPartition<Threads> partition{storage};
  int const kept = partition.run(
      slots, [&](int i) { return ref.may_freeze(granule_at(i), open); },
      [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
        move_exact(ref, from, to, warp_lane);
      });
  __syncthreads();
  for (int i = kept + static_cast<int>(threadIdx.x); i < slots; i += Threads) {
    ref.freeze(granule_at(i));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    lane.slots = kept;
  }
  __syncthreads();
}

/// @brief Makes a lane need at most `most` pages, if its protected rows and digests let it. By one
/// block; pages do not go back yet.
template <class C, int Threads>
__device__ void give_way(LaneRef<C> const& ref, std::uint32_t most,
                         typename BlockPartition<Threads>::Storage& storage) {
  Geometry const& g = *ref.geometry;
  for (int level = 0; level < C::levels; ++level) {
    std::uint32_t const needed = needed_pages<C>(g, *ref.lane);
    SegmentGeometry const& s = g.segment[pool_segment(level)];
    std::uint32_t const held = s.pages_of(static_cast<std::uint32_t>(ref.lane->codes[level]));
    __syncthreads();  // all have read what drop_codes() changes
    if (needed > most) {
      std::uint32_t const kept = held - min(held, needed - most);
      int const codes = static_cast<int>(kept * s.per_page);
      drop_codes<C, Threads>(ref, level, whole_codes<C, Threads>(ref, level, codes, storage));
    }
  }
  bool const strip = needed_pages<C>(g, *ref.lane) > most;
  __syncthreads();
  if (strip) {
    drop_exact<C, Threads>(ref, storage);
  }
}

/// Pages that a lane does not need go back. By one block, in a launch that takes none.
template <class C>
__device__ void release_pages(LaneRef<C> const& ref, PagePool const& pool) {
  int const segment = static_cast<int>(threadIdx.x);
  if (segment < pool_segment(C::levels)) {
    give_back(ref, pool, segment, kept_pages<C>(*ref.geometry, *ref.lane, segment));
  }
}

}  // namespace kvfreeze::gpu::detail
