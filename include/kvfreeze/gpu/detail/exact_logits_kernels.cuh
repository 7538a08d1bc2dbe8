#pragma once

#include <kvfreeze/gpu/detail/exact_rows.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/tile_loop.cuh>
#include <kvfreeze/gpu/detail/tile_walk.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What a launch is told. Heads of a lane are worked on `heads` at a time, in passes.
struct LogitArguments {
  int group = 1;        ///< query heads of a lane
  int heads = 1;        ///< of a pass, at most
  int head_groups = 1;  ///< warps that share tiles: 1, 2, 4 or 8
  int passes = 1;       ///< that a block makes, where all of them are its own
  int dim = 0;
  float octaves = 1.0F;
  float const* q = nullptr;  ///< [lanes][group][dim]
};

/// @brief A block's shared memory.
template <class Lane, class Sizes>
struct LogitStorage {
  alignas(16) std::byte ring[Sizes::ring_bytes];
  typename TileWalk<Sizes::threads>::Storage walk;
  Lane lane;
};

template <class Lane, int Dim>
struct LogitTiles {
  using Source = ExactRows<typename Lane::Value, Dim, false>;
  using Sizes = AttentionSizes<Dim, Source::slot_bytes>;
  using Storage = LogitStorage<Lane, Sizes>;
};

/// Logits are stored and nothing else.
struct NoLogitNote {
  __device__ void operator()(unsigned, float) const {}
};

/// Tiles of a lane with so many exact rows.
template <class Tiles>
__device__ std::uint32_t logit_tiles(std::uint32_t rows) {
  return (rows + Tiles::Source::tile_rows - 1) / Tiles::Source::tile_rows;
}

/// @brief Logits of the tiles [begin, end) of a lane's exact rows, under the heads of a pass. By
/// the first Sizes::warps warps of a block.
/// @param lane in shared memory, has a place for logits
/// @param q [group][dim], the lane's queries
/// @param note note(head, logit), head of the lane: of the logits that the thread has stored
template <class Tiles, class Lane, class Note>
__device__ void store_logits(Lane const& lane, LogitArguments const& a, AttentionWarp const& place,
                             float const* q, std::byte* ring, std::uint32_t begin,
                             std::uint32_t end, std::uint32_t rows, Note const& note) {
  using Source = typename Tiles::Source;
  Source const source(lane, 0, q + static_cast<std::size_t>(place.heads.first) * a.dim, place.heads,
                      a.dim, a.octaves);
  for_each_tile<typename Tiles::Sizes>(
      source, place, ring, begin, end, rows,
      [&](std::byte const* slot, TileSpan tile, NoLogits const& given) {
        float logit[1];
        source.logits(slot, given, logit);
        source.note(tile, logit);
        unsigned const head = warp_thread() % warp_heads;
        if (warp_thread() / warp_heads < tile.rows &&
            head < static_cast<unsigned>(place.heads.count)) {
          note(place.heads.first + head, logit[0]);
        }
      });
}

/// @brief Calls f(warp, begin, end) for each pass over the tiles of a lane's exact rows that are
/// the block's among those that work on the lane. By its threads that have a part in them.
template <class Tiles, class F>
__device__ __forceinline__ void for_each_pass(LogitArguments const& a, LanePlace const& place,
                                              std::uint32_t rows, F const& f) {
  std::uint32_t const tiles = logit_tiles<Tiles>(rows);
  auto const blocks = static_cast<std::uint32_t>(place.blocks);
  auto const block = static_cast<std::uint32_t>(place.block);
  TileCuts const cuts{blocks, tiles / blocks, tiles % blocks};
  std::uint32_t const begin = cuts.begin(block);
  std::uint32_t const end = cuts.begin(block + 1);
  if (warp_index() >= Tiles::Sizes::warps || begin == end) {
    return;
  }
#pragma unroll 1
  for (int pass = 0; pass < a.passes; ++pass) {
    f(AttentionWarp(a.group, a.heads, a.head_groups, pass), begin, end);
  }
}

/// @brief Logits of all exact rows. Blocks, warps and teams as in decode_attention_kernel.
template <class Lanes, int Dim>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    LogitTiles<typename Lanes::Lane, Dim>::Sizes::threads,
    LogitTiles<typename Lanes::Lane, Dim>::Sizes::
        blocks_per_multiprocessor) void exact_logits_kernel(__grid_constant__ Lanes const lanes,
                                                            __grid_constant__ LogitArguments const
                                                                a) {
  using Tiles = LogitTiles<typename Lanes::Lane, Dim>;
  using Sizes = typename Tiles::Sizes;
  extern __shared__ uint4 attention_memory[];
  auto& storage = *reinterpret_cast<typename Tiles::Storage*>(attention_memory);
  auto const tiles = [&](std::uint32_t lane) {
    return max(logit_tiles<Tiles>(lanes.rows(0, lane)), 1U);
  };
  TileWalk<Sizes::threads> const walk(storage.walk, static_cast<std::uint32_t>(lanes.size()),
                                      Sizes::warps, tiles);
  AttentionWarp const place(a.group, a.heads, a.head_groups, static_cast<int>(blockIdx.y));
  std::uint32_t lane = walk.lane;
  for (std::uint32_t begin = walk.lane_begin; begin < walk.end; ++lane) {
    std::uint32_t const rows = lanes.rows(0, lane);
    std::uint32_t const end = begin + tiles(lane);
    if (threadIdx.x == 0) {
      storage.lane = lanes.lane(lane);
    }
    __syncthreads();
    if (rows != 0 && storage.lane.logits != nullptr) {
      std::size_t const queries = static_cast<std::size_t>(lane) *
                                  static_cast<std::size_t>(a.group) *
                                  static_cast<std::size_t>(a.dim);
      store_logits<Tiles>(storage.lane, a, place, a.q + queries, storage.ring,
                          max(walk.begin, begin) - begin, min(walk.end, end) - begin, rows,
                          NoLogitNote{});
    }
    __syncthreads();
    begin = end;
  }
}

}  // namespace kvfreeze::gpu::detail
