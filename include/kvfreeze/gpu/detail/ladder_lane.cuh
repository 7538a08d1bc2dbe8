#pragma once

/// @file
/// @brief A lane whose step the ladder decides: what the functions of one block share.

#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/bit_list.cuh>
#include <kvfreeze/gpu/detail/ranked_list.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/rung_cuts.cuh>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/scheduler/lane_facts.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// A granule that rises, in one word: there are fewer than 2^24 of them.
struct Riser {
  std::uint32_t granule : 24;
  std::uint32_t level : 4;  ///< that it rises to
  std::uint32_t from_pool : 1;
};

static_assert(sizeof(Riser) == sizeof(std::uint32_t));

/// @brief What one of a lane's blocks has decided, and what all do then.
struct LadderVerdict {
  RungCuts cuts;
  LaneFacts facts;
  unsigned long long frozen = 0;  ///< mass of the frozen rows, which all blocks add up
  int sink_age = 0;               ///< rows that no step needed for so long may sink; 0: none do
  bool everything = false;        ///< all rows are wanted exact
  bool capped = false;            ///< the lane has a budget that counts
  bool is_over = false;           ///< nothing moves: the lane is whole, or was only looked at
};

/// @brief The block's shared memory.
struct LadderStorage {
  static constexpr int most_heads = 64;
  static constexpr int most_counts = 16;

  union {
    typename RankedList<CumulativeHistogram::threads>::Storage list;
    typename BitList<CumulativeHistogram::threads>::Storage bits;
  };

  LaneRuns runs;
  RungCuts cuts;
  LaneFacts facts;
  unsigned long long missed;               ///< mass of frozen rows that stay so
  unsigned long long weights[most_heads];  ///< of frozen rows that rise, by query head
  int exact;                               ///< risers to exact slots
  int most;                                ///< risers that the budgets hold
  int counts[most_counts];                 ///< risers by level
  bool everything;                         ///< all rows are wanted exact
  bool placed;                             ///< there are pages for those that rise
  bool outranked;                          ///< more ranks were asked for than the aim has room for
};

/// @brief One lane and what its block is told, by address.
template <class C>
struct LadderLane {
  using Scheduler = typename C::Scheduler;

  static constexpr int threads = CumulativeHistogram::threads;
  static constexpr int exact_level = C::levels + 1;

  LaneRef<C> const& ref;
  LayerStep<C> const& step;
  Scheduler const& scheduler;
  PagePool const& pool;
  WorkLane const& where;
  int work;
  LadderStorage& shared;
  LadderVerdict& verdict;
  std::uint32_t* risers;   ///< bits: rows that rise, where their masses are
  std::uint32_t* sinkers;  ///< bits: compact rows that may sink

  [[nodiscard]] __device__ LaneState& state() const { return *ref.lane; }

  [[nodiscard]] __device__ LaneRuns const& runs() const { return shared.runs; }

  [[nodiscard]] __device__ int heads() const { return ref.geometry->lane_queries; }

  /// Masses of n <= 4 rows of a run, i a multiple of 4. Other blocks wrote most of them, and have
  /// said so before this block began.
  __device__ void masses(int run, int i, int n, Mass (&out)[4]) const {
    load_four(runs().masses + runs().begin[run] + i, n, Mass{0}, out);
  }

  [[nodiscard]] __device__ Mass mass(int run, int i) const {
    return runs().masses[runs().begin[run] + i];
  }

  /// Granules of n <= 4 rows of a pool, i a multiple of 4; 0 behind them.
  __device__ void coded(int level, int i, int n, std::uint32_t (&out)[4]) const {
    load_four(runs().granules + runs().begin[LaneRuns::pool(level)] + i, n, 0U, out);
  }

  /// Granule of a row of a pool.
  [[nodiscard]] __device__ std::uint32_t coded(int level, int i) const {
    return runs().granules[runs().begin[LaneRuns::pool(level)] + i];
  }

  /// Calls f(i, n) for the rows of [0, rows), n <= 4 from i on, of which the thread has every
  /// `threads`th four.
  template <class F>
  __device__ void for_each_four(int rows, F const& f) const {
    for (int i = 4 * static_cast<int>(threadIdx.x); i < rows; i += 4 * threads) {
      f(i, min(rows - i, 4));
    }
  }

  /// Where the code of a riser from a pool is: in place of its digest's logit, which no longer
  /// counts.
  [[nodiscard]] __device__ CodePlace& code_place(std::uint32_t granule) const {
    return reinterpret_cast<CodePlace&>(runs().logits[granule]);
  }

  /// The list of risers lies where the ranking had the places of codes, which it needs no more.
  [[nodiscard]] __device__ Riser& riser(int i) const {
    return reinterpret_cast<Riser*>(runs().granules)[i];
  }
};

}  // namespace kvfreeze::gpu::detail
