#pragma once

#include <kvfreeze/gpu/detail/exact_rows.cuh>
#include <kvfreeze/gpu/detail/tile_loop.cuh>
#include <kvfreeze/gpu/detail/tile_walk.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What a launch is told. Heads of a lane are worked on `heads` at a time, in gridDim.y
/// passes.
struct LogitArguments {
  int group = 1;        ///< query heads of a lane
  int heads = 1;        ///< of a pass, at most
  int head_groups = 1;  ///< warps that share tiles: 1, 2, 4 or 8
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
  using Source = typename Tiles::Source;
  extern __shared__ uint4 attention_memory[];
  auto& storage = *reinterpret_cast<typename Tiles::Storage*>(attention_memory);
  auto const tiles = [&](std::uint32_t lane) {
    return max((lanes.rows(0, lane) + Source::tile_rows - 1) / Source::tile_rows, 1U);
  };
  TileWalk<Sizes::threads> const walk(storage.walk, static_cast<std::uint32_t>(lanes.size()),
                                      Sizes::warps, tiles);
  AttentionWarp place(a.group, a.heads, a.head_groups);
  std::uint32_t lane = walk.lane;
  for (std::uint32_t begin = walk.lane_begin; begin < walk.end; ++lane) {
    std::uint32_t const rows = lanes.rows(0, lane);
    std::uint32_t const end = begin + tiles(lane);
    if (threadIdx.x == 0) {
      storage.lane = lanes.lane(lane);
    }
    __syncthreads();
    if (rows != 0 && storage.lane.logits != nullptr) {
      float const* const q =
          a.q +
          (static_cast<std::size_t>(lane) * static_cast<std::size_t>(a.group) + place.heads.first) *
              static_cast<std::size_t>(a.dim);
      Source const source(storage.lane, 0, q, place.heads, a.dim, a.octaves);
      for_each_tile<Sizes>(source, place, storage.ring, max(walk.begin, begin) - begin,
                           min(walk.end, end) - begin, rows,
                           [&](std::byte const* slot, TileSpan tile, NoLogits const& given) {
                             float logit[1];
                             source.logits(slot, given, logit);
                             source.note(tile, logit);
                           });
    }
    __syncthreads();
    begin = end;
  }
}

}  // namespace kvfreeze::gpu::detail
