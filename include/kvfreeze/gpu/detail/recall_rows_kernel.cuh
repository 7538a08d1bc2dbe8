#pragma once

/// @file
/// @brief Recall of a layer's lanes, from queries to rows: what the step wants exact is decided,
/// listed and fetched, in one launch.

#include <kvfreeze/gpu/detail/dot_scores_kernels.cuh>
#include <kvfreeze/gpu/detail/histogram_kernels.cuh>
#include <kvfreeze/gpu/detail/lane_barrier.cuh>
#include <kvfreeze/gpu/detail/lane_masses.cuh>
#include <kvfreeze/gpu/detail/recall_chunks.cuh>
#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/detail/recall_logits.cuh>
#include <kvfreeze/gpu/detail/thaw_kernel.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What the launch is told.
template <class C>
struct RecallRows {
  RecallLanes<C> lanes;
  LogitArguments exact;
  int hidden = 0;  ///< newest rows that the query does not see: it is one of a chunk's
  MassPlan masses;
  DecideRecall<typename C::Scheduler, RecallLanes<C>> decide;
  typename C::Scorer scorer;
  std::uint32_t* barriers = nullptr;  ///< [work lane], 0 before the first launch
  std::uint32_t* rest = nullptr;      ///< [work lane][max_granules] of work space
  int max_granules = 0;
  bool thaws = true;  ///< are rows fetched, or only listed?
};

/// Shared memory of the block. Its parts are used one after another.
template <class C>
union RecallRowsStorage {
  MassStorage masses;
  BlockHistogram histogram;

  struct {
    CumulativeHistogram scores;
    typename CumulativeHistogram::Storage building;
  } decision;

  RecallStorage recall;
  ThawStorage<C, rank_threads> thaw;
};

/// @brief The phases that digest_scan_async(), exact_logits_async(), dot_scores_async(),
/// softmax_masses_async(), recall_async() and a thaw would be launches of. Grid (blocks of a lane,
/// lanes). Where a lane has several blocks, all of them must be resident. Dynamic shared memory:
/// recall_shared_bytes().
template <class C, int Dim>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads, 2) void recall_rows_kernel(__grid_constant__ RecallRows<C> const a) {
  static_assert(rank_threads == recall_threads && rank_threads == CumulativeHistogram::threads);
  extern __shared__ __align__(16) std::byte recall_memory[];
  auto* const scales = reinterpret_cast<HeadScale*>(recall_memory);
  __shared__ LaneTiles tiles;
  __shared__ typename RecallLogits<C, Dim>::Storage logits;
  __shared__ RecallRowsStorage<C> shared;
  __shared__ bool last;
  int const work = static_cast<int>(blockIdx.y);
  tiles.load(a.lanes, work);
  LanePlace const place = place_in_grid(tiles);
  if (place.block >= place.blocks) {
    return;
  }
  LaneBarrier const barrier = lane_barrier(a.barriers, place);
  RecallLogits<C, Dim>(a.lanes.step, a.exact, place, logits, recall_memory).run();
  barrier.meet();
  if (a.hidden > 0) {
    if (place.block == 0) {
      a.lanes.hide(work, a.hidden);
    }
    barrier.meet();
  }
  find_largest(tiles, a.masses, place, shared.masses);
  if constexpr (C::needs_queries) {
    score_dots(tiles, place, a.masses.heads, a.masses.page_shift, a.lanes.geometry.dot_limit,
               a.lanes.step.digest_rows);
  }
  if (place.block == 0) {
    clear_histogram(a.masses, place);
  }
  barrier.meet();
  sum_weights(tiles, a.masses, place, shared.masses);
  if constexpr (C::needs_queries) {
    shared.histogram.clear();
    count_scores(a.lanes.rows(work), a.max_granules, place.block, place.blocks, shared.histogram,
                 a.masses.histograms[work]);
  }
  barrier.meet();
  find_scales(a.masses, place, scales);
  shared.histogram.clear();
  make_masses<!C::needs_queries>(tiles, a.masses, place, scales, &shared.histogram);
  if (barrier.elects(last)) {
    shared.decision.scores.build(a.masses.histograms[work], shared.decision.building);
    a.decide(work, shared.decision.scores);
  }
  barrier.meet();
  RecallChunks const chunks(a.lanes.lane(work), a.decide.decisions, work, a.decide.cells,
                            a.decide.chunks, a.max_granules, shared.recall);
  for (int chunk = place.block; chunk < chunks.count(); chunk += place.blocks) {
    chunks.run(chunk);
  }
  if (!barrier.is_last(last)) {
    return;
  }
  chunks.finish(
      a.rest + static_cast<std::ptrdiff_t>(work) * static_cast<std::ptrdiff_t>(a.max_granules),
      a.decide.results[work]);
  if (a.thaws) {
    __syncthreads();
    RecallLanes<C> const& lanes = a.lanes;
    thaw_rows<C, rank_threads>(lanes.geometry, lanes.memory, lanes.step, work, a.decide.scheduler,
                               a.scorer, a.decide.results, a.decide.demands, shared.thaw);
  }
}

/// Dynamic shared memory of recall_rows_kernel()'s blocks: of logits, then a HeadScale for each
/// head.
template <class C, int Dim>
std::size_t recall_shared_bytes(Geometry const& g) {
  std::size_t const scales = static_cast<std::size_t>(g.lane_queries) * sizeof(HeadScale);
  return std::max(scales, RecallLogits<C, Dim>::shared_bytes(g.group, g.head_dim));
}

}  // namespace kvfreeze::gpu::detail
