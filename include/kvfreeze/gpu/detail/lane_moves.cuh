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
  CodeSlot<C> const source = ref.code(level, from);
  CodeSlot<C> const target = ref.code(level, to);
  int const heads = C::by_layer ? ref.geometry->heads_per_lane : 1;
  for (int h = 0; h < heads; ++h) {
    copy_bytes(source.residual(h), target.residual(h), p.residual_bytes, lane);
    copy_bytes(source.values(h), target.values(h), p.value_bytes, lane);
    if (lane == 0) {
      target.scale(h) = source.scale(h);
    }
  }
  if (lane == 0) {
    target.stamp() = source.stamp();
    std::uint32_t const left = target.granule();
    target.granule() = source.granule();
    source.granule() = left;
  }
}

/// Bytes of K of the rows that a granule has.
template <class C>
__device__ std::uint32_t held_bytes(LaneRef<C> const& ref, std::uint32_t granule) {
  if constexpr (C::page == 1) {
    return ref.geometry->part_bytes;
  } else {
    return static_cast<std::uint32_t>(ref.rows_of(granule)) * ref.geometry->row_bytes;
  }
}

/// A granule's rows and sums go from slot to slot, and where its keys are is noted. By one warp.
template <class C>
__device__ void copy_exact(LaneRef<C> const& ref, std::uint32_t granule, std::uint32_t from,
                           std::uint32_t to, int lane) {
  std::uint32_t const bytes = held_bytes(ref, granule);
  copy_bytes(reinterpret_cast<std::byte const*>(ref.k(from)),
             reinterpret_cast<std::byte*>(ref.k(to)), bytes, lane);
  copy_bytes(reinterpret_cast<std::byte const*>(ref.v(from)),
             reinterpret_cast<std::byte*>(ref.v(to)), bytes, lane);
  auto const tail = static_cast<std::uint32_t>(ref.tail_begin());
  if (lane < (C::page == 1 ? 1 : ref.rows_of(granule))) {
    if constexpr (C::needs_queries) {
      ref.sum(to, lane) = ref.sum(from, lane);
    }
    if constexpr (C::has_digest) {
      if (granule >= tail) {
        auto const row = static_cast<std::uint32_t>(lane);
        ref.lane->tail[(granule - tail) * C::page + row] = to * C::page + row;
      }
    }
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
  host::SlotRecord const moved = ref.record(from);
  copy_exact(ref, moved.granule, from, to, lane);
  __syncwarp();
  if (lane == 0) {
    ref.record(from) = ref.record(to);
    ref.record(to) = moved;
  }
}

/// @brief The newest granule, which has room for rows, goes to slot `to`, where nothing is. By a
/// block; afterwards all see it there.
template <class C>
__device__ void carry_newest(LaneRef<C> const& ref, std::uint32_t from, std::uint32_t to) {
  if (from != to && threadIdx.x < 32) {
    auto const lane = static_cast<int>(threadIdx.x);
    if constexpr (C::in_place) {
      if (lane == 0) {
        ref.list[to] = ref.list[from];
      }
    } else {
      host::SlotRecord const moved = ref.record(from);
      copy_exact(ref, moved.granule, from, to, lane);
      if (lane == 0) {
        ref.record(to) = moved;
      }
    }
  }
  __syncthreads();
}

/// Swaps two arrays of a multiple of 16 bytes, by one warp.
__device__ inline void swap_bytes(std::byte* a, std::byte* b, std::uint32_t bytes, int lane) {
  auto* const first = reinterpret_cast<uint4*>(a);
  auto* const second = reinterpret_cast<uint4*>(b);
  for (std::uint32_t i = static_cast<std::uint32_t>(lane); i < bytes / 16; i += 32) {
    uint4 const x = first[i];
    first[i] = second[i];
    second[i] = x;
  }
}

/// @brief The newest granule goes to the last slot if a cut has left it with room for rows: it was
/// whole, and may be anywhere. By a block.
/// @param cell of shared memory
template <class C, int Threads>
__device__ void newest_last(LaneRef<C> const& ref, std::uint32_t& cell) {
  if constexpr (C::page > 1) {
    auto const newest = static_cast<std::uint32_t>(ref.granules() - 1);
    if (!ref.is_filling() || host::GranuleState::fidelity(ref.states[newest]) != Fidelity::exact) {
      return;
    }
    auto const thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < ref.lane->slots; i += Threads) {
      if (ref.record(static_cast<std::uint32_t>(i)).granule == newest) {
        cell = static_cast<std::uint32_t>(i);
      }
    }
    __syncthreads();
    std::uint32_t const at = cell;
    auto const last = static_cast<std::uint32_t>(ref.lane->slots - 1);
    if (at != last && thread < 32) {
      if constexpr (C::in_place) {
        if (thread == 0) {
          ref.list[at] = ref.list[last];
          ref.list[last] = newest;
        }
      } else {
        std::uint32_t const bytes = ref.geometry->part_bytes;
        swap_bytes(reinterpret_cast<std::byte*>(ref.k(at)),
                   reinterpret_cast<std::byte*>(ref.k(last)), bytes, thread);
        swap_bytes(reinterpret_cast<std::byte*>(ref.v(at)),
                   reinterpret_cast<std::byte*>(ref.v(last)), bytes, thread);
        if (C::needs_queries && thread < C::page) {
          std::uint32_t const sum = ref.sum(at, thread);
          ref.sum(at, thread) = ref.sum(last, thread);
          ref.sum(last, thread) = sum;
        }
        if (thread == 0) {
          host::SlotRecord const record = ref.record(at);
          ref.record(at) = ref.record(last);
          ref.record(last) = record;
        }
      }
    }
    __syncthreads();
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
  std::uint32_t const quads = held_bytes(ref, granule) / 16U;
  std::uint32_t const gap = ref.geometry->part_bytes / 16U - quads;  // behind K, of rows to come
  auto const* const from = reinterpret_cast<uint4 const*>(ref.stored(granule));
  auto* const k = reinterpret_cast<uint4*>(ref.k(slot));
  auto* const v = reinterpret_cast<uint4*>(ref.v(slot));
  for (std::uint32_t i = static_cast<std::uint32_t>(lane); i < 2 * quads; i += 32) {
    if (i < quads) {
      k[i] = from[i];
    } else {
      v[i - quads] = from[gap + i];
    }
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
    auto const tail = static_cast<std::uint32_t>(ref.tail_row());
    int const rows = lane.rows - static_cast<int>(tail);
    if constexpr (C::discards) {
      for (int i = thread; i < rows; i += Threads) {
        lane.tail[i] = none;
      }
      __syncthreads();
    }
    for (int i = thread; i < exact_rows<C>(lane); i += Threads) {
      auto const slot = static_cast<std::uint32_t>(i / C::page);
      auto const row = static_cast<std::uint32_t>(i % C::page);
      std::uint32_t const position = ref.record(slot).granule * C::page + row;
      if (position >= tail) {
        lane.tail[position - tail] = ref.place(slot) * C::page + row;
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
