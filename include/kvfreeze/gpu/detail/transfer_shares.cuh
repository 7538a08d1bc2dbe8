#pragma once

#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Deals a sequence's transfer budget for the next step: equal parts, the rest one granule
/// each to the lanes that had to defer, then round the others, from another lane each step. By one
/// block. @see host::plan_transfers
template <int Threads>
struct TransferShares {
  using Storage = WarpSums<Threads>;

  /// @complexity O(lanes)
  /// @tparam Span granules that only move together
  template <int Span>
  static __device__ void deal(Geometry const& g, LaneState* lanes, std::uint32_t step,
                              Storage& storage) {
    auto const count = static_cast<std::uint32_t>(g.lanes);
    std::uint32_t const each = g.transfers / Span / count;
    std::uint32_t const rest = g.transfers / Span % count;
    std::uint32_t const start = step % count;
    std::uint32_t before = 0;
    for (bool const deferred : {true, false}) {
      for (std::uint32_t first = 0; first < count; first += Threads) {
        std::uint32_t const i = first + threadIdx.x;
        std::uint32_t const at = (start + i) % count;
        bool const counts = i < count && (lanes[at].deferred > 0) == deferred;
        std::uint32_t rank = 0;
        std::uint32_t total = 0;
        scan_flags<Threads>(storage, counts, rank, total);
        if (counts) {
          bool const more = before + rank < rest;
          lanes[at].allotment = (each + (more ? 1U : 0U)) * Span;
        }
        before += total;
        __syncthreads();
      }
    }
  }
};

}  // namespace kvfreeze::gpu::detail
