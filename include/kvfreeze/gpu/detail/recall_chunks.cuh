#pragma once

/// @file
/// @brief What recall has decided, carried out by blocks that take 4,096 granules of a lane at a
/// time.

#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/decide_recall.cuh>
#include <kvfreeze/gpu/detail/ordered_chunk.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>
#include <kvfreeze/gpu/recall_lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int recall_threads = 256;
using RecallChunk = OrderedChunk<recall_threads>;

inline int recall_chunks(int max_granules) {
  int const chunks = (max_granules + RecallChunk::entries - 1) / RecallChunk::entries;
  return chunks > 1 ? chunks : 1;
}

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

}  // namespace kvfreeze::gpu::detail
