#pragma once

/// @file
/// @brief How blocks share the tiles of a batch of lanes of different lengths: every block takes as
/// many neighbouring tiles, whatever lanes they are of.

#include <kvfreeze/gpu/detail/block_scan.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Tiles of all lanes, numbered through, cut into pieces of equal length give or take one.
struct TileCuts {
  std::uint32_t blocks = 1;  ///< that have work
  std::uint32_t each = 0;    ///< tiles of a block
  std::uint32_t longer = 0;  ///< blocks in front that have one more

  [[nodiscard]] __device__ std::uint32_t begin(std::uint32_t block) const {
    return block * each + min(block, longer);
  }

  [[nodiscard]] __device__ std::uint32_t block_of(std::uint32_t tile) const {
    std::uint32_t const front = longer * (each + 1);
    return tile < front ? tile / (each + 1) : longer + (tile - front) / each;
  }
};

/// @brief Finds a block's first tile. Every block counts the tiles of all lanes: they are few, and
/// nobody else knows how many rows there are.
/// @tparam Threads of the block, which calls together
template <int Threads>
struct TileWalk {
  static constexpr int warps = Threads / 32;

  struct Storage {
    std::uint32_t warp_sums[warps];
    std::uint32_t lane;
    std::uint32_t lane_begin;
  };

  TileCuts cuts;
  std::uint32_t begin = 0;       ///< the block's tiles
  std::uint32_t end = 0;         ///< begin: the block has no work
  std::uint32_t lane = 0;        ///< of the first tile
  std::uint32_t lane_begin = 0;  ///< first tile of that lane

  /// @param least tiles that are worth a block
  /// @param tiles tiles(lane) >= 1: of a lane
  template <class Tiles>
  __device__ TileWalk(Storage& storage, std::uint32_t lanes, std::uint32_t least,
                      Tiles const& tiles) {
    std::uint32_t const share = (lanes + Threads - 1) / Threads;
    std::uint32_t const first = min(threadIdx.x * share, lanes);
    std::uint32_t const last = min(first + share, lanes);
    std::uint32_t sum = 0;
    for (std::uint32_t i = first; i < last; ++i) {
      sum += tiles(i);
    }
    std::uint32_t before = 0;
    std::uint32_t total = 0;
    scan_block<Threads>(storage.warp_sums, sum, before, total);
    cuts.blocks = max(min((total + least - 1) / least, gridDim.x), 1U);
    cuts.each = total / cuts.blocks;
    cuts.longer = total % cuts.blocks;
    if (blockIdx.x >= cuts.blocks) {
      return;
    }
    begin = cuts.begin(blockIdx.x);
    end = cuts.begin(blockIdx.x + 1);
    if (before <= begin && begin < before + sum) {
      std::uint32_t i = first;
      for (std::uint32_t count = tiles(i); before + count <= begin; count = tiles(i)) {
        before += count;
        ++i;
      }
      storage.lane = i;
      storage.lane_begin = before;
    }
    __syncthreads();
    lane = storage.lane;
    lane_begin = storage.lane_begin;
  }
};

}  // namespace kvfreeze::gpu::detail
