#pragma once

/// @file
/// @brief What the launch that ranks a layer's lanes is told, and what a block keeps.

#include <kvfreeze/gpu/detail/exact_logits_kernels.cuh>
#include <kvfreeze/gpu/detail/ladder_rank.cuh>
#include <kvfreeze/gpu/detail/lane_masses.cuh>
#include <kvfreeze/gpu/detail/lane_share.cuh>
#include <kvfreeze/gpu/detail/largest_logits.cuh>
#include <kvfreeze/gpu/detail/rank_scan.cuh>
#include <kvfreeze/gpu/detail/span_masses.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What the launch is told.
template <class C>
struct RankArguments {
  RankLadder<C> ladder;
  MassPlan masses;
  LogitArguments exact;
  std::uint32_t* barriers = nullptr;  ///< [work lane]
  /// [work lane][step.digest_rows / C::span], where rows share verdicts
  std::uint32_t* span_masses = nullptr;
};

/// The block's shared memory, of fixed size.
template <class C>
struct RankStorage {
  typename LaneShare<rank_threads>::Storage share;
  LanePlace place;  ///< here, so that no registers hold it from phase to phase
  LaneTiles tiles;
  typename LayerStep<C>::Lane attention;
  ScannedRows<C> scanned;
  MassStorage masses;
  HeadScale scales[LargestLogits::most_heads];
  BlockHistogram histogram;
  CumulativeHistogram rows;
  typename CumulativeHistogram::Storage building;
  LadderStorage ladder;
  std::uint32_t arrived;  ///< thread 0's, which no register holds meanwhile
  bool last;
};

}  // namespace kvfreeze::gpu::detail
