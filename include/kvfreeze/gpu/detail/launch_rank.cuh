#pragma once

/// @file
/// @brief The launch that ranks the rows of a layer's lanes.

#include <kvfreeze/gpu/detail/cooperative_launch.cuh>
#include <kvfreeze/gpu/detail/digest_shape.cuh>
#include <kvfreeze/gpu/detail/launch_logits.cuh>
#include <kvfreeze/gpu/detail/rank_kernel.cuh>

#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>

namespace kvfreeze::gpu::detail {

/// What is asked of the device once, when a cache is made.
struct RankGrid {
  unsigned resident = 0;  ///< blocks that the device holds at once
  std::size_t shared_bytes = 0;
};

/// @throws InvalidArgument for numbers out of range, CudaError if the device cannot hold a block
template <class C>
RankGrid rank_grid(Geometry const& g) {
  check_heads("KvFreezeCache", g.lane_queries);
  check_dim("KvFreezeCache", g.head_dim);
  return with_slot_dim<C::max_head_dim>(g.head_dim, [&](auto dim) {
    RankGrid grid;
    grid.shared_bytes = RankLane<C, dim()>::shared_bytes(g.group, g.head_dim);
    grid.resident =
        resident_blocks(rank_kernel<C, dim()>, "rank_kernel", rank_threads, grid.shared_bytes);
    return grid;
  });
}

/// @brief Ranks the rows of the step's lanes, decides what becomes of them and fetches what rises.
/// @param masses whose `keys` and sums have room for most_rank_blocks of a lane
/// @param barriers [lanes], 0 before the first launch
/// @param span_masses as RankArguments has it
/// @throws CudaError
template <class C>
void launch_rank(RankLadder<C> const& ladder, MassPlan const& masses, std::uint32_t* barriers,
                 std::uint32_t* span_masses, RankGrid const& grid, ::cuda::stream_ref stream) {
  Geometry const& g = ladder.geometry;
  RankArguments<C> arguments{ladder, masses, {}, barriers, span_masses};
  // Where lanes have a block each, blocks wait for nobody and need not all be resident.
  auto const lanes = static_cast<unsigned>(ladder.step.lanes);
  unsigned const blocks = std::max(std::min(grid.resident, lanes * most_rank_blocks), lanes);
  with_slot_dim<C::max_head_dim>(g.head_dim, [&](auto dim) {
    using Tiles = LogitTiles<typename LayerStep<C>::Lane, dim()>;
    arguments.exact = logit_arguments<Tiles>(g, ladder.step.queries);
    launch_blocks(rank_kernel<C, dim()>, "rank_kernel", blocks, rank_threads, grid.shared_bytes,
                  blocks > lanes, stream, arguments);
  });
}

}  // namespace kvfreeze::gpu::detail
