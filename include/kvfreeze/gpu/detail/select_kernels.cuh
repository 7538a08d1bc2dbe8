#pragma once

/// @file
/// @brief Recall's selections: decided by one block a lane from a histogram, carried out by a block
/// for each 4,096 granules.

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/ordered_chunk.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>
#include <kvfreeze/gpu/recall_lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int recall_threads = 256;
using RecallChunk = OrderedChunk<recall_threads>;

inline int recall_chunks(int max_granules) {
  int const chunks = (max_granules + RecallChunk::entries - 1) / RecallChunk::entries;
  return chunks > 1 ? chunks : 1;
}

/// @brief What is wanted of the granules that were asked: scores from `from` on, and of those in
/// one bin `ties` from the `first_tie`-th on, by position.
struct RecallDecision {
  static constexpr std::uint64_t nothing = std::uint64_t{1} << 32;

  std::uint64_t from = nothing;
  std::int32_t tie_bin = -1;  ///< -1: none
  std::uint32_t first_tie = 0;
  std::uint32_t ties = 0;
};

/// As a decision on whole bins where that is the same, so that nobody counts ties.
__device__ inline RecallDecision decision_of(host::BinCutoff cutoff,
                                             CumulativeHistogram const& scores) {
  constexpr int last = 239;  // log_bin of the largest integer
  RecallDecision decision;
  if (cutoff.bin > last) {
    return decision;
  }
  if (cutoff.in_bin >= scores.count_of(cutoff.bin)) {
    decision.from = host::log_bin_floor(cutoff.bin);
    return decision;
  }
  if (cutoff.bin < last) {
    decision.from = host::log_bin_floor(cutoff.bin + 1);
  }
  decision.tie_bin = cutoff.bin;
  decision.ties = cutoff.in_bin;
  return decision;
}

template <class Scheduler, class Lanes>
struct DecideRecall {
  Scheduler scheduler;
  Lanes lanes;
  float units;
  int chunks;
  RecallDecision* decisions;
  unsigned* arrived;
  std::uint32_t* cells;
  RecallResult* results;
  Span<float const> water_levels;
  std::uint32_t* demands;

  /// By all threads of a block.
  __device__ void operator()(int lane, CumulativeHistogram const& scores) const {
    auto const thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < 2 * chunks; i += CumulativeHistogram::threads) {
      cells[2 * chunks * lane + i] = 0;
    }
    auto const levels = static_cast<int>(water_levels.size());
    if (thread < levels) {
      std::uint32_t const epsilon = kvfreeze::detail::score_threshold(water_levels[thread], units);
      demands[lane * levels + thread] = scores.from[scores.all_but(epsilon).bin];
    }
    RecallLane const own = lanes.lane(lane);
    Selection selection = kvfreeze::detail::as_count(
        kvfreeze::detail::among_open(scheduler.recall(own.facts), own.facts.protected_granules),
        own.high - own.low);
    if constexpr (kvfreeze::detail::is_eager<Scheduler>()) {
      selection = Selection::all();
    }
    bool const knows = own.scores != nullptr;
    if (!knows && selection.kind != Selection::Kind::all) {
      selection = Selection::none();  // nothing is known of what is frozen
    }
    std::uint32_t marked = 0;
    RecallDecision decision;
    switch (selection.kind) {
      case Selection::Kind::all:
        decision.from = 0;
        marked = scores.total_count();
        break;
      case Selection::Kind::above:
        decision.from = kvfreeze::detail::score_threshold(selection.value, units);
        marked = count_from(own, scores, static_cast<std::uint32_t>(decision.from));
        break;
      case Selection::Kind::mass: {
        std::uint32_t const epsilon = kvfreeze::detail::score_threshold(selection.value, units);
        host::BinCutoff const cutoff = scores.all_but(epsilon);
        decision = decision_of(cutoff, scores);
        marked = scores.from[cutoff.bin];
        break;
      }
      case Selection::Kind::count:
        if (selection.count > 0) {
          auto const count = static_cast<std::uint32_t>(selection.count);
          decision = decision_of(scores.highest(count), scores);
          marked = min(count, scores.total_count());
        }
        break;
      default:
        break;
    }
    if (thread != 0) {
      return;
    }
    int const left = own.facts.allowed - own.facts.protected_granules;
    auto const room = static_cast<std::uint32_t>(max(left, 0));
    RecallResult result;
    result.wanted = marked;
    if (marked > room) {
      result.wanted = room;
      result.deferred = marked - room;
      result.over_cap = 1;
      decision = knows ? decision_of(scores.highest(room), scores) : newest(room, marked);
    } else if (knows && selection.kind == Selection::Kind::mass) {
      float const share = kvfreeze::detail::hysteresis(scheduler);
      if (share < 1.0F) {
        std::uint32_t const epsilon =
            kvfreeze::detail::score_threshold(__fmul_rn(selection.value, share), units);
        result.keep_from = scores.threshold(scores.all_but(epsilon));
      }
    }
    arrived[lane] = 0;
    decisions[lane] = decision;
    results[lane] = result;
  }

 private:
  /// Of granules whose scores are not known, which all count as 0, the last ones.
  static __device__ RecallDecision newest(std::uint32_t room, std::uint32_t marked) {
    RecallDecision decision;
    decision.tie_bin = 0;
    decision.first_tie = marked - room;
    decision.ties = room;
    return decision;
  }

  /// @brief How many of the asked granules have a score of at least `threshold`. Where that is not
  /// a bin's floor, the bin's own granules are looked at: O(granules).
  __device__ std::uint32_t count_from(RecallLane const& own, CumulativeHistogram const& scores,
                                      std::uint32_t threshold) const {
    int const bin = host::log_bin(threshold);
    std::uint32_t const above = scores.from[bin + 1];
    if (host::log_bin_floor(bin) == threshold || scores.count_of(bin) == 0 ||
        own.scores == nullptr) {
      return threshold == 0 ? scores.total_count() : scores.from[bin];
    }
    __shared__ std::uint32_t within;
    if (threadIdx.x == 0) {
      within = 0;
    }
    __syncthreads();
    std::uint32_t count = 0;
    for (int i = own.low + static_cast<int>(threadIdx.x); i < own.high;
         i += CumulativeHistogram::threads) {
      bool const asked = (own.states[i] & host::GranuleState::not_askable) == 0;
      std::uint32_t const score = own.scores[i];
      count += asked && score >= threshold && host::log_bin(score) == bin ? 1U : 0U;
    }
    count = __reduce_add_sync(warp_mask, count);
    if (threadIdx.x % 32 == 0) {
      atomicAdd(&within, count);
    }
    __syncthreads();
    return above + within;
  }
};

/// A thread's 16 granules of a chunk.
struct RecallEntries {
  std::uint32_t scores[RecallChunk::steps][4];
  std::uint32_t states[RecallChunk::steps];  ///< a byte each

  __device__ RecallEntries(RecallLane const& lane, int chunk_begin) {
#pragma unroll
    for (int s = 0; s < RecallChunk::steps; ++s) {
      int const first = chunk_begin + RecallChunk::entry(s);
      int const n = min(max(lane.facts.granules - first, 0), 4);
      constexpr std::uint32_t evicted = static_cast<std::uint32_t>(Fidelity::evicted);
      states[s] = load_four(lane.states + first, n);
#pragma unroll
      for (int j = 0; j < 4; ++j) {  // beyond the end nothing is to be had
        states[s] |= j >= n ? evicted << (8 * j) : 0U;
        scores[s][j] = 0;
      }
      if (lane.scores != nullptr) {
        load_four(lane.scores + first, n, 0U, scores[s]);
      }
    }
  }

  /// Flags of the entries for which a condition holds.
  template <class Condition>
  [[nodiscard]] __device__ unsigned flags(Condition const& holds) const {
    unsigned found = 0;
#pragma unroll
    for (int s = 0; s < RecallChunk::steps; ++s) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        found |= holds(s, j, scores[s][j], byte_of(states[s], j)) ? 1U << (4 * s + j) : 0U;
      }
    }
    return found;
  }
};

/// Granules that are thawed whether or not they are wanted.
inline constexpr std::uint32_t must_thaw = host::GranuleState::forced | host::GranuleState::pinned;

/// @brief Puts the most urgent `limit` of a lane's list in front, by urgency, and carries the
/// others over. By the lane's last block.
struct LimitThaws {
  static constexpr int bins = CumulativeHistogram::bins;

  struct Storage {
    union {
      typename CumulativeHistogram::Storage histogram;
      WarpSums<recall_threads, std::uint64_t> scan;
    };

    CumulativeHistogram scores;
    std::uint32_t counts[bins];
    std::uint32_t forced;
    std::uint32_t carried;
  };

  RecallLane const& lane;
  std::uint32_t* rest;  ///< [granules] of work space

  __device__ void run(std::uint32_t total, std::uint32_t limit, Storage& storage) const {
    unsigned const thread = threadIdx.x;
    storage.counts[thread] = 0;
    if (thread == 0) {
      storage.forced = 0;
      storage.carried = 0;
    }
    __syncthreads();
    for (std::uint32_t i = thread; i < total; i += recall_threads) {
      std::uint32_t const granule = __ldcg(lane.thaws + i);
      std::uint32_t const state = lane.states[granule];
      if ((state & must_thaw) != 0) {
        atomicAdd(&storage.forced, 1U);
      } else if ((state & host::GranuleState::carried) != 0) {
        atomicAdd(&storage.carried, 1U);
      } else {
        atomicAdd(&storage.counts[host::log_bin(score(granule))], 1U);
      }
    }
    __syncthreads();
    storage.scores.build(0, storage.counts[thread], storage.histogram);
    std::uint32_t const forced = min(storage.forced, limit);
    std::uint32_t const carried = min(storage.carried, limit - forced);
    host::BinCutoff const cutoff = storage.scores.highest(limit - forced - carried);
    std::uint32_t const above = cutoff.bin < bins ? storage.scores.from[cutoff.bin + 1] : 0U;
    // Fields of 16 bits count four kinds over one round; what came before is added up apart.
    std::uint32_t const begins[4] = {0, forced, forced + carried, forced + carried + above};
    std::uint32_t const most[4] = {forced, carried, above, limit - forced - carried - above};
    std::uint32_t before[4] = {};
    for (std::uint32_t begin = 0; begin < total; begin += recall_threads) {
      std::uint32_t const i = begin + thread;
      std::uint32_t granule = 0;
      int kind = 4;  // neither
      if (i < total) {
        granule = __ldcg(lane.thaws + i);
        std::uint32_t const state = lane.states[granule];
        int const bin = host::log_bin(score(granule));
        kind = (state & must_thaw) != 0                     ? 0
               : (state & host::GranuleState::carried) != 0 ? 1
               : bin > cutoff.bin                           ? 2
               : bin == cutoff.bin                          ? 3
                                                            : 4;
      }
      std::uint64_t ranks = 0;
      std::uint64_t totals = 0;
      std::uint64_t const one = kind < 4 ? std::uint64_t{1} << (16 * kind) : 0;
      scan_block<recall_threads>(storage.scan, one, ranks, totals);
      bool kept = false;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        std::uint32_t const rank =
            before[k] + static_cast<std::uint32_t>((ranks >> (16 * k)) & 0xFFFFU);
        if (kind == k && rank < most[k]) {
          rest[begins[k] + rank] = granule;
          kept = true;
        }
        before[k] += static_cast<std::uint32_t>((totals >> (16 * k)) & 0xFFFFU);
      }
      if (i < total && !kept) {
        lane.states[granule] |= host::GranuleState::carried;
      }
      __syncthreads();
    }
    for (std::uint32_t i = thread; i < limit; i += recall_threads) {
      lane.thaws[i] = rest[i];
    }
  }

 private:
  [[nodiscard]] __device__ std::uint32_t score(std::uint32_t granule) const {
    return lane.scores != nullptr ? lane.scores[granule] : 0U;
  }
};

/// Shared memory of a block that carries out a lane's recall.
struct RecallStorage {
  typename RecallChunk::Storage order;
  std::uint32_t staged[RecallChunk::entries];  ///< so that lists are written side by side
  std::uint32_t earlier;
  typename LimitThaws::Storage limit;
};

/// @brief What was decided for a lane, carried out chunk by chunk. A chunk's counts wait for those
/// of all earlier ones: every block takes its chunks in order.
struct RecallChunks {
  RecallLane lane;
  RecallDecision decision;
  ChunkCounts ties;
  ChunkCounts thaws;
  RecallStorage& storage;

  /// @param number of the lane
  /// @param cells [lanes][2][chunks], 0 before
  /// @param chunks of the longest lane there may be
  __device__ RecallChunks(RecallLane const& own, RecallDecision const* decisions, int number,
                          std::uint32_t* cells, int chunks, int max_granules, RecallStorage& shared)
      : lane(own),
        decision(decisions[number]),
        ties{cells + static_cast<std::size_t>(2 * number) * static_cast<std::size_t>(chunks)},
        thaws{ties.cells + chunks},
        storage(shared) {
    lane.facts.granules = min(lane.facts.granules, max_granules);
  }

  /// At least 1.
  [[nodiscard]] __device__ int count() const {
    return max((lane.facts.granules + RecallChunk::entries - 1) / RecallChunk::entries, 1);
  }

  /// Marks what is wanted of a chunk, and lists what of it thaws. By all threads of a block.
  __device__ void run(int chunk) const {
    int const granules = lane.facts.granules;
    int const begin = chunk * RecallChunk::entries;
    RecallEntries const entries(lane, begin);
    auto const asked = [&](int s, int j, std::uint32_t state) {
      int const granule = begin + RecallChunk::entry(s) + j;
      return granule >= lane.low && granule < lane.high &&
             (state & host::GranuleState::not_askable) == 0;
    };
    unsigned wanted = entries.flags([&](int s, int j, std::uint32_t score, std::uint32_t state) {
      return asked(s, j, state) && score >= decision.from;
    });
    if (decision.tie_bin >= 0) {
      unsigned const tied =
          entries.flags([&](int s, int j, std::uint32_t score, std::uint32_t state) {
            return asked(s, j, state) && host::log_bin(score) == decision.tie_bin;
          });
      RecallChunk const order(tied, storage.order);
      std::uint32_t const before = count_before(ties, chunk, order.total);
#pragma unroll
      for (int s = 0; s < RecallChunk::steps; ++s) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          unsigned const flag = 1U << (4 * s + j);
          std::uint32_t const place = before + order.rank(tied, s, j) - decision.first_tie;
          wanted |= place < decision.ties ? tied & flag : 0U;
        }
      }
    }
#pragma unroll
    for (int s = 0; s < RecallChunk::steps; ++s) {
      int const first = begin + RecallChunk::entry(s);
      unsigned const four = (wanted >> (4 * s)) & 0xFU;
      std::uint32_t const bytes =
          (four & 1U) | (four & 2U) << 7 | (four & 4U) << 14 | (four & 8U) << 21;
      store_four(lane.wanted + first, bytes, min(max(granules - first, 0), 4));
    }

    unsigned const picked = entries.flags([&](int s, int j, std::uint32_t, std::uint32_t state) {
      bool const absent = (state & host::GranuleState::fidelity_mask) ==
                          static_cast<std::uint32_t>(Fidelity::frozen);
      return absent && ((wanted >> (4 * s + j) & 1U) != 0 || (state & must_thaw) != 0);
    });
    RecallChunk const order(picked, storage.order);
#pragma unroll
    for (int s = 0; s < RecallChunk::steps; ++s) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if ((picked >> (4 * s + j) & 1U) != 0) {
          storage.staged[order.rank(picked, s, j)] =
              static_cast<std::uint32_t>(begin + RecallChunk::entry(s) + j);
        }
      }
    }
    std::uint32_t const before = count_before(thaws, chunk, order.total);
    for (std::uint32_t i = threadIdx.x; i < order.total; i += recall_threads) {
      global(lane.thaws)[before + i] = storage.staged[i];
    }
    __syncthreads();
  }

  /// @brief What the transfer budget pays for of the list. By one block, when all chunks are done.
  /// @param rest [granules] of work space
  __device__ void finish(std::uint32_t* rest, RecallResult& result) const {
    std::uint32_t const total = sum_before(thaws, count());
    std::uint32_t const limit = min(total, lane.affordable);
    if (limit < total) {
      LimitThaws{lane, rest}.run(total, limit, storage.limit);
    }
    if (threadIdx.x == 0) {
      result.thaws = limit;
      result.deferred += total - limit;
    }
  }

 private:
  /// The counts of the chunks before, for all threads.
  __device__ std::uint32_t sum_before(ChunkCounts const& counts, int chunk) const {
    if (threadIdx.x < 32) {
      std::uint32_t const sum = counts.before(chunk);
      if (threadIdx.x == 0) {
        storage.earlier = sum;
      }
    }
    __syncthreads();
    std::uint32_t const sum = storage.earlier;
    __syncthreads();
    return sum;
  }

  /// The same, when the chunk's own count is published.
  __device__ std::uint32_t count_before(ChunkCounts const& counts, int chunk,
                                        std::uint32_t count) const {
    if (threadIdx.x == 0) {
      counts.publish(chunk, count);
    }
    return sum_before(counts, chunk);
  }
};

template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    recall_threads) void recall_kernel(Lanes lanes, RecallDecision const* decisions,
                                       unsigned* arrived, std::uint32_t* cells, std::uint32_t* rest,
                                       int max_granules, RecallResult* results) {
  __shared__ RecallStorage storage;
  __shared__ bool last;
  int const number = static_cast<int>(blockIdx.y);
  int const chunk = static_cast<int>(blockIdx.x);
  RecallChunks const chunks(lanes.lane(number), decisions, number, cells,
                            static_cast<int>(gridDim.x), max_granules, storage);
  if (chunk >= chunks.count()) {
    return;
  }
  chunks.run(chunk);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(&arrived[number], 1U) + 1U == static_cast<unsigned>(chunks.count());
  }
  __syncthreads();
  if (last) {
    __threadfence();
    chunks.finish(rest + static_cast<std::size_t>(number) * static_cast<std::size_t>(max_granules),
                  results[number]);
  }
}

}  // namespace kvfreeze::gpu::detail
