#pragma once

/// @file
/// @brief Rows and codes that change slots within a lane, a warp each.

#include <kvfreeze/gpu/lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Copies bytes that are a multiple of 16, by one warp.
__device__ inline void copy_bytes(std::byte const* from, std::byte* to, std::uint32_t bytes,
                                  int lane) {
  auto const* const in = reinterpret_cast<uint4 const*>(from);
  auto* const out = reinterpret_cast<uint4*>(to);
  for (std::uint32_t i = static_cast<std::uint32_t>(lane); i < bytes / 16; i += 32) {
    out[i] = in[i];
  }
}

/// The slot `from` of a compact level takes the place of slot `to`, which leaves: its granule's
/// number changes places with it, so that those that left can be found behind. By one warp.
template <class C>
__device__ void move_code(LaneRef<C> const& ref, int level, std::uint32_t from, std::uint32_t to,
                          int lane) {
  PoolPage const& p = ref.geometry->pool[level];
  copy_bytes(ref.residual(level, from), ref.residual(level, to), p.residual_bytes, lane);
  copy_bytes(ref.values(level, from), ref.values(level, to), p.value_bytes, lane);
  if (lane == 0) {
    ref.scale(level, to) = ref.scale(level, from);
    ref.code_stamp(level, to) = ref.code_stamp(level, from);
    std::uint32_t const left = ref.code_granule(level, to);
    ref.code_granule(level, to) = ref.code_granule(level, from);
    ref.code_granule(level, from) = left;
  }
}

/// The exact slot `from` takes the place of `to`, which leaves; their records change places, in
/// place nothing but their entries of the list. By one warp.
template <class C>
__device__ void move_exact(LaneRef<C> const& ref, std::uint32_t from, std::uint32_t to, int lane) {
  if constexpr (C::in_place) {
    if (lane == 0) {
      std::uint32_t const moved = ref.list[from];
      ref.list[from] = ref.list[to];
      ref.list[to] = moved;
    }
    return;
  }
  std::uint32_t const bytes = ref.geometry->part_bytes;
  copy_bytes(reinterpret_cast<std::byte const*>(ref.k(from)),
             reinterpret_cast<std::byte*>(ref.k(to)), bytes, lane);
  copy_bytes(reinterpret_cast<std::byte const*>(ref.v(from)),
             reinterpret_cast<std::byte*>(ref.v(to)), bytes, lane);
  if (lane == 0) {
    host::SlotRecord const moved = ref.record(from);
    ref.record(from) = ref.record(to);
    ref.record(to) = moved;
    if constexpr (C::needs_queries) {
      ref.sum(to) = ref.sum(from);
    }
    if constexpr (C::has_digest) {
      auto const tail = static_cast<std::uint32_t>(ref.tail_begin());
      if (moved.granule >= tail) {
        ref.lane->tail[moved.granule - tail] = to;
      }
    }
  }
}

/// @brief Copies a granule from the tier into an exact slot, by one warp, 16 bytes a thread: K and
/// V in one loop, so that the link's latency is waited for once. In place it is there.
template <class C>
__device__ void load_granule(LaneRef<C> const& ref, std::uint32_t granule, std::uint32_t slot,
                             int lane) {
  if constexpr (!C::stores) {
    return;
  }
  std::uint32_t const quads = ref.geometry->part_bytes / 16U;
  auto const* const from = reinterpret_cast<uint4 const*>(ref.stored(granule));
  auto* const k = reinterpret_cast<uint4*>(ref.k(slot));
  auto* const v = reinterpret_cast<uint4*>(ref.v(slot));
  for (std::uint32_t i = static_cast<std::uint32_t>(lane); i < 2 * quads; i += 32) {
    (i < quads ? k : v - quads)[i] = from[i];
  }
}

/// @brief Writes down where the rows are that no digest holds. By one block.
///
/// Of those that are gone (a truncation can leave them behind the last group) nobody asks for the
/// logits, but the group that they will be in is encoded: they stand for the row before, the first
/// of all for the next one that is there. @see host::encode_group
template <class C, int Threads>
__device__ void find_tail(LaneRef<C> const& ref) {
  if constexpr (C::has_digest) {
    LaneState& lane = *ref.lane;
    constexpr std::uint32_t none = host::no_slot;
    auto const thread = static_cast<int>(threadIdx.x);
    auto const tail = static_cast<std::uint32_t>(ref.tail_begin());
    int const rows = lane.rows - static_cast<int>(tail);
    if constexpr (C::discards) {
      for (int i = thread; i < rows; i += Threads) {
        lane.tail[i] = none;
      }
      __syncthreads();
    }
    for (int i = thread; i < lane.slots; i += Threads) {
      std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i)).granule;
      if (granule >= tail) {
        lane.tail[granule - tail] = ref.place(static_cast<std::uint32_t>(i));
      }
    }
    if constexpr (C::discards) {
      __syncthreads();
      if (thread == 0) {
        int first = 0;
        while (first < rows && lane.tail[first] == none) {
          ++first;
        }
        std::uint32_t before = first < rows ? lane.tail[first] : 0U;
        for (int i = 0; i < rows; ++i) {
          before = lane.tail[i] == none ? before : lane.tail[i];
          lane.tail[i] = before;
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace kvfreeze::gpu::detail
