#pragma once

/// @file
/// @brief A layer's budget by its rows' scores, whichever head they belong to.

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/lone_scores.cuh>
#include <kvfreeze/gpu/detail/retain_rows.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Shared memory of a LayerParts.
struct LayerPartsStorage {
  RetainRowsStorage rows;
  std::uint32_t layer[host::ScoreHistogram::bins];  ///< scores of the layer's rows
  std::uint32_t own[host::ScoreHistogram::bins];    ///< those of one lane's
  std::uint32_t cell;
  std::int64_t left;
  int cut;
};

/// @brief How many of a layer's highest rows each of its lanes has, relative to the mean lane. By
/// one block, which calls every function together. @see host::note_layer_parts
template <class C>
struct LayerParts {
  static constexpr int threads = retain_threads;
  static constexpr int bins = host::ScoreHistogram::bins;
  static_assert(threads == bins);

  Geometry const& geometry;
  CacheMemory const& memory;
  typename C::Scheduler const& scheduler;
  typename C::Scorer const& scorer;
  std::uint32_t sequence;
  std::uint32_t step;
  int layer;
  LayerPartsStorage& shared;

  __device__ void note() const {
    shared.layer[thread()] = 0;
    std::int64_t slots = 0;
    for (int head = 0; head < geometry.lanes_per_layer; ++head) {
      LaneRef<C> const ref = lane(head);
      list_lone_scores<C, threads>(ref, scorer, step, ref.open_range().high);
      count(ref, shared.layer);
      slots += ref.lane->slots;
    }
    std::uint32_t const open = block_sum(shared.layer[thread()], shared.cell);
    if (thread() == 0) {  // what is protected is wanted in any case
      find_cut(static_cast<std::int64_t>(budget()) * geometry.lanes_per_layer - (slots - open));
    }
    __syncthreads();
    double total = 0.0;  // of thread 0
    for (int head = 0; head < geometry.lanes_per_layer; ++head) {
      double const wanted = count_wanted(lane(head));
      if (thread() == 0) {
        lane(head).lane->layer_part = __double2float_rn(wanted);
        total = __dadd_rn(total, wanted);
      }
    }
    for (int head = 0; thread() == 0 && head < geometry.lanes_per_layer; ++head) {
      float& part = lane(head).lane->layer_part;
      auto const heads = static_cast<double>(geometry.lanes_per_layer);
      part = total > 0.0
                 ? __double2float_rn(__ddiv_rn(__dmul_rn(static_cast<double>(part), heads), total))
                 : 1.0F;
    }
  }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  [[nodiscard]] __device__ LaneRef<C> lane(int head) const {
    return {geometry, memory, sequence,
            static_cast<std::uint32_t>(layer * geometry.lanes_per_layer + head)};
  }

  /// Granules that the mean lane may hold exact: what the first one may with an equal part.
  [[nodiscard]] __device__ int budget() const {
    LaneRef<C> const first(geometry, memory, sequence, 0);
    LaneFacts facts = facts_but_part(first, 0, 0, step);
    if (geometry.room != 0) {
      auto const equal = geometry.room / static_cast<std::uint32_t>(geometry.lanes);
      facts.allowed = allowed_slots<C>(geometry, equal, first.lane->rows + 1);
    }
    return scheduler.budget(facts);
  }

  /// Adds the scores of a lane's rows that may freeze, which are listed, to `bins_of_scores`.
  __device__ void count(LaneRef<C> const& ref, std::uint32_t* bins_of_scores) const {
    __syncthreads();
    RetainRows<C>{ref, scheduler, scorer, step, ref.open_range(), shared.rows}.for_each(
        [&](float score) { atomicAdd(&bins_of_scores[host::ScoreHistogram::bin(score)], 1U); });
    __syncthreads();
  }

  /// Bins from the cut on are wanted whole; of the one below `left` are. By one thread.
  __device__ void find_cut(std::int64_t left) const {
    int cut = bins;
    while (cut > 0 && static_cast<std::int64_t>(shared.layer[cut - 1]) <= left) {
      left -= shared.layer[--cut];
    }
    shared.cut = cut;
    shared.left = left;
  }

  /// Rows of a lane that are wanted or protected; a bin that is cut counts in proportion.
  [[nodiscard]] __device__ double count_wanted(LaneRef<C> const& ref) const {
    shared.own[thread()] = 0;
    count(ref, shared.own);
    int const cut = shared.cut;
    std::uint32_t const own = shared.own[thread()];
    std::uint32_t const of_edge = shared.own[max(cut - 1, 0)];
    std::uint32_t const open = block_sum(own, shared.cell);
    std::uint32_t const whole = block_sum(thread() >= cut ? own : 0U, shared.cell);
    auto const sum = static_cast<double>(static_cast<std::int64_t>(ref.lane->slots) - open + whole);
    if (cut == 0 || shared.left <= 0) {
      return sum;
    }
    double const edge = __dmul_rn(static_cast<double>(of_edge), static_cast<double>(shared.left));
    return __dadd_rn(sum, __ddiv_rn(edge, static_cast<double>(shared.layer[cut - 1])));
  }
};

/// @brief Notes each lane's part of its layer's budget. Grid (layers, sequences of the batch).
/// @param steps [max_sequences] finished steps; this one is the next
template <class C>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    retain_threads) void layer_parts_kernel(Geometry g, CacheMemory memory,
                                            typename C::Scheduler scheduler,
                                            typename C::Scorer scorer, std::uint32_t const* batch,
                                            std::uint32_t const* steps) {
  __shared__ LayerPartsStorage shared;
  std::uint32_t const sequence = batch[blockIdx.y];
  LayerParts<C>{
      g, memory, scheduler, scorer, sequence, steps[sequence], static_cast<int>(blockIdx.x), shared}
      .note();
}

}  // namespace kvfreeze::gpu::detail
