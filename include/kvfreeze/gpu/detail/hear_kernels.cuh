#pragma once

/// @file
/// @brief A chunk of a prompt in lanes without compact rows: its rows become the lane's, its last
/// queries say what they think of all rows. @see host::vote

#include <kvfreeze/gpu/detail/begin_recall.cuh>
#include <kvfreeze/gpu/detail/query_window.cuh>
#include <kvfreeze/gpu/detail/thaw_lane.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/gpu/detail/vote_kernel.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The chunk's rows become the lane's, their keys' direction and the newest queries are
/// kept; who is due wakes. One block a lane.
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void end_chunk_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, ChunkRows<Input> chunk) {
  WorkLane const work(g, s, static_cast<int>(blockIdx.x));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  if (ref.lane->chunk == 0) {  // there was no room for it
    return;
  }
  int const before = ref.lane->rows;
  __syncthreads();  // all have read what end_chunk() changes
  end_chunk<C, Threads>(ref);
  if constexpr (C::sleeps) {
    wake_due<C, Threads>(ref, work.step);
  }
  if constexpr (C::rates) {
    int const first = ref.lane->slots - ref.granules();  // slot of a granule of the chunk, less it
    for (int position = before; position < ref.lane->rows; ++position) {
      auto const slot = static_cast<std::uint32_t>(first + position / C::page);
      note_direction<C, Threads>(
          ref, ref.k(slot) + static_cast<std::ptrdiff_t>(position % C::page) * g.row_elements);
    }
  }
  if constexpr (C::needs_queries) {
    int const elements = g.lane_queries * g.head_dim;
    for (int token = max(chunk.tokens - g.window_queries, 0); token < chunk.tokens; ++token) {
      Input const* const q = chunk.queries(g, work.head, token);
      float* const kept = ref.query_of(before + token);
      for (int i = static_cast<int>(threadIdx.x); i < elements; i += Threads) {
        kept[i] = __fmul_rn(to_float(q[i]), g.octaves);
      }
    }
  }
}

/// @brief What is kept of keys is made: norms of the chunk's, sums of all exact rows over the new
/// window of queries. Lanes along y.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void note_chunk_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, typename C::Scorer scorer, int tokens) {
  WorkLane const where(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  LaneState const& lane = *ref.lane;
  if constexpr (C::needs_norms) {
    constexpr int warps = Threads / 32;
    int const oldest = max((lane.rows - tokens) / C::page + lane.slots - ref.granules(), 0);
    int const first = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32;
    for (int i = oldest + first; i < lane.slots; i += static_cast<int>(gridDim.x) * warps) {
      note_key_norm(ref, static_cast<std::uint32_t>(i));
    }
  }
  if constexpr (C::needs_queries) {
    __shared__ QueryStage stage;
    SlotRange const slots = slots_of_block(lane.slots);
    rebuild_sums<C, Threads>(ref, slots, lane.rows, stage);
    note_means<C, Threads>(ref, scorer, slots, lane.rows, where.step);
  }
}

/// @brief Makes each lane ready to be asked by one of the chunk's queries. One block a lane.
/// @param token whose query it is
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void ask_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, ChunkRows<Input> chunk, int token) {
  auto const index = static_cast<int>(blockIdx.x);
  WorkLane const work(g, s, index);
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  if (threadIdx.x == 0) {
    ref.lane->mode = LaneMode::ranked;
  }
  float* const octaves =
      s.queries + static_cast<std::ptrdiff_t>(index) * g.lane_queries * g.head_dim;
  load_queries<Input, Threads>(g, chunk.queries(g, work.head, token), octaves);
  __syncthreads();
  describe_lane<C, Threads>(ref, s, index);
  if constexpr (C::recalls) {
    if (threadIdx.x == 0) {
      describe_tail(ref, s, index);
    }
  }
}

/// @brief What the asked query wants is noted on the exact rows, and its masses in their scores. A
/// block a lane. @see host::vote_by_digest
/// @param results [work lane] of recall_async()
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void heed_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, typename C::Scorer scorer,
    RecallResult const* results) {
  auto const work = static_cast<int>(blockIdx.x);
  WorkLane const where(g, s, work);
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  LaneRuns const runs = lane_runs(ref, s, work);
  stamp_wanted<C, Threads>(ref, runs, recall_scores(runs, s), results[work].keep_from, where.step);
  if constexpr (C::has_state && C::needs_mass) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < ref.lane->slots; i += Threads) {
      std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i)).granule;
      update_score(ref, scorer, granule, where.step, runs.masses[granule]);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
