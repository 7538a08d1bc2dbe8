#pragma once

/// @file
/// @brief How the blocks of one launch share lanes of different lengths, where those of a lane wait
/// for each other.

#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A block's lane. Every lane has a block, and more in proportion to its work; lanes without
/// work have none. Where there are no more blocks than lanes, each has one, and nobody waits.
///
/// Every block counts the work of all lanes: nobody else knows.
/// @tparam Threads of the block, which calls together
template <int Threads>
struct LaneShare {
  struct Storage {
    std::uint32_t warp_sums[3][Threads / 32];
    LanePlace place;
  };

  LanePlace place;  ///< its lane is the number of lanes if the block has none

  /// @pre there are as many blocks as lanes, or more
  /// @param work [lanes] rounds of a block that each takes: it has no more blocks than these
  /// @param room blocks that a lane may have
  __device__ LaneShare(Storage& storage, std::uint32_t const* work, int lanes, int room) {
    if (lanes >= static_cast<int>(gridDim.x)) {
      place = {static_cast<int>(blockIdx.x), 0, 1, room};
      return;
    }
    int const share = (lanes + Threads - 1) / Threads;
    int const first = min(static_cast<int>(threadIdx.x) * share, lanes);
    int const last = min(first + share, lanes);
    std::uint32_t sum = 0;
    std::uint32_t busy = 0;
    for (int i = first; i < last; ++i) {
      sum += work[i];
      busy += work[i] != 0 ? 1U : 0U;
    }
    std::uint32_t before = 0;
    std::uint32_t all_work = 0;
    std::uint32_t all_busy = 0;
    scan_block<Threads>(storage.warp_sums[0], sum, before, all_work);
    scan_block<Threads>(storage.warp_sums[1], busy, before, all_busy);
    std::uint32_t const spare = gridDim.x - all_busy;
    auto const blocks_of = [&](int lane) {
      std::uint32_t const own = work[lane];
      auto const more =
          static_cast<std::uint32_t>(static_cast<std::uint64_t>(own) * spare / max(all_work, 1U));
      return own == 0 ? 0U : min(1 + more, min(own, static_cast<std::uint32_t>(room)));
    };
    std::uint32_t own = 0;
    for (int i = first; i < last; ++i) {
      own += blocks_of(i);
    }
    if (threadIdx.x == 0) {
      storage.place = {lanes, 0, 1, room};
    }
    std::uint32_t total = 0;
    scan_block<Threads>(storage.warp_sums[2], own, before, total);
    if (before <= blockIdx.x && blockIdx.x < before + own) {
      int lane = first;
      for (std::uint32_t n = blocks_of(lane); before + n <= blockIdx.x; n = blocks_of(lane)) {
        before += n;
        ++lane;
      }
      storage.place = {lane, static_cast<int>(blockIdx.x - before),
                       static_cast<int>(blocks_of(lane)), room};
    }
    __syncthreads();
    place = storage.place;
  }
};

}  // namespace kvfreeze::gpu::detail
