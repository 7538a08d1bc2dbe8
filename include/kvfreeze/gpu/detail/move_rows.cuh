#pragma once

#include <kvfreeze/gpu/detail/code_rows.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The exact slot `from` takes the place of `to`, which leaves; their records change places,
/// so that those that left can be found behind. By one warp.
template <class C>
__device__ void move_exact(LaneRef<C> const& ref, std::uint32_t from, std::uint32_t to,
                           int warp_lane) {
  std::uint32_t const bytes = ref.geometry->part_bytes;
  copy_bytes(reinterpret_cast<std::byte const*>(ref.k(from)),
             reinterpret_cast<std::byte*>(ref.k(to)), bytes, warp_lane);
  copy_bytes(reinterpret_cast<std::byte const*>(ref.v(from)),
             reinterpret_cast<std::byte*>(ref.v(to)), bytes, warp_lane);
  if (warp_lane == 0) {
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

}  // namespace kvfreeze::gpu::detail
