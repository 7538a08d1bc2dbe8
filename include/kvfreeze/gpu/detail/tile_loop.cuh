#pragma once

/// @file
/// @brief How a block's warps go through tiles: copies ahead, teams that share them.

#include <kvfreeze/gpu/detail/async_copy.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Sizes of a block.
///
/// It has room for 64 KiB of tiles, half of them under way. Two blocks fit on a multiprocessor of
/// sm_80 or sm_90; one, where it has 100 KiB. A warp has at least two tiles. The queries of long
/// rows take registers: blocks are smaller there, so that threads have more.
/// @tparam TileBytes of a tile of exact rows
/// @tparam SlotBytes of the largest tile
template <int Dim, int TileBytes, int SlotBytes = TileBytes>
struct AttentionSizes {
  static constexpr int tiles = 65536 / TileBytes;
  static constexpr int most_warps = Dim > 128 ? 4 : 8;
  static constexpr int warps = tiles / 2 < most_warps ? tiles / 2 : most_warps;
  static constexpr int stages = tiles / warps;
  static constexpr int threads = 32 * warps;
  static constexpr int blocks_per_multiprocessor = 2;
  static constexpr int slot_bytes = SlotBytes;
  static constexpr int ring_bytes = stages * warps * slot_bytes;
  static constexpr int most_heads = warps * warp_heads;  ///< query heads of a block
};

/// @brief A warp's place in the block.
struct AttentionWarp {
  unsigned warp = 0;
  unsigned team = 0;        ///< warps that share tiles
  unsigned team_warps = 1;  ///< 1, 2, 4 or 8
  unsigned first_warp = 0;  ///< of the team
  int pass_heads = 0;       ///< query heads of the block
  int warp_share = 0;       ///< query heads of each of the team's warps, the last may have fewer
  WarpHeads heads;

  /// @param group query heads of a lane, worked on `heads_of_pass` at a time in passes
  __device__ AttentionWarp(int group, int heads_of_pass, int head_groups, int pass)
      : warp(threadIdx.x / 32), team_warps(static_cast<unsigned>(head_groups)) {
    team = warp / team_warps;
    first_warp = team * team_warps;
    int const first = pass * heads_of_pass;
    pass_heads = min(heads_of_pass, group - first);
    warp_share = (heads_of_pass + head_groups - 1) / head_groups;
    int const within = static_cast<int>(warp - first_warp) * warp_share;
    heads.first = static_cast<std::uint32_t>(first + within);
    heads.count = max(min(warp_share, pass_heads - within), 0);
  }

  /// Waits for the team's warps, and sees what they wrote to shared memory.
  __device__ void sync_team() const {
    if (team_warps == 1) {
      __syncwarp();
    } else {
      asm volatile("bar.sync %0, %1;" : : "r"(team + 1), "r"(32 * team_warps) : "memory");
    }
  }
};

/// @brief Calls compute(slot, tile, given) for those of a run's tiles [begin, end) that the warp
/// computes; copies of later tiles are under way meanwhile.
///
/// In a round every warp copies one tile and computes all tiles of its team.
/// @param rows of the run
template <class Sizes, RowSource Source, class Compute>
__device__ void for_each_tile(Source const& source, AttentionWarp const& place, std::byte* ring,
                              std::uint32_t begin, std::uint32_t end, std::uint32_t rows,
                              Compute const& compute) {
  constexpr std::uint32_t warps = Sizes::warps;
  constexpr std::uint32_t stages = Sizes::stages;
  auto const span = [&](std::uint32_t tile) {
    std::uint32_t const first = tile * Source::tile_rows;
    std::uint32_t const left = tile < end ? rows - first : 0;
    return TileSpan{first, min(left, static_cast<std::uint32_t>(Source::tile_rows))};
  };
  auto const copied = [&](std::uint32_t round) { return begin + round * warps + place.warp; };
  auto const slot = [&](std::uint32_t round, std::uint32_t warp) {
    return ring + (round % stages * warps + warp) * Sizes::slot_bytes;
  };
  typename Source::Ahead ahead{};
  auto const look_up = [&](std::uint32_t round) {
    source.look_up(ahead, span(copied(round)), span(copied(round + 1)));
  };
  auto const copy = [&](std::uint32_t round) {
    std::uint32_t const tile = copied(round);
    if (tile < end) {
      source.copy(ahead, span(tile), slot(round, place.warp));
    }
    close_copies();
  };
  place.sync_team();  // nobody reads the ring any more
  source.look_up(ahead, span(copied(0)));
  look_up(0);
  for (std::uint32_t round = 0; round + 1 < stages; ++round) {
    copy(round);
    look_up(round + 1);
  }
  typename Source::Given given{};
  if (begin + place.first_warp < end) {
    given = source.given(span(begin + place.first_warp));
  }
  std::uint32_t const rounds = (end - begin + warps - 1) / warps;
  for (std::uint32_t round = 0; round < rounds; ++round) {
    wait_copies<Sizes::stages - 2>();
    place.sync_team();  // the round's tiles are there, and nobody reads the last round's any more
    copy(round + stages - 1);
    look_up(round + stages);
    for (std::uint32_t i = 0; i < place.team_warps; ++i) {
      std::uint32_t const warp = place.first_warp + i;
      std::uint32_t const tile = begin + round * warps + warp;
      if (tile >= end) {
        break;
      }
      typename Source::Given const current = given;
      std::uint32_t const next =
          i + 1 < place.team_warps ? tile + 1 : begin + (round + 1) * warps + place.first_warp;
      if (next < end) {
        given = source.given(span(next));
      }
      compute(slot(round, warp), span(tile), current);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
