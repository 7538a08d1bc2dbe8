#pragma once

/// @file
/// @brief The slow clock's selections by float scores, a block for each lane.

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/ordered_chunk.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>
#include <kvfreeze/gpu/retain_lane.cuh>
#include <kvfreeze/host/choose.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int retain_threads = 512;
using RetainChunk = OrderedChunk<retain_threads>;

/// @brief What is wanted: candidates whose key is above `edge`, and of those at it the first `ties`
/// by position. A key is the score's bits, or its histogram bin.
struct RetainEdge {
  static constexpr std::uint32_t all = 0xFFFFFFFFU;

  std::uint32_t edge = all;
  std::uint32_t ties = 0;
  bool by_bin = false;

  [[nodiscard]] __device__ std::uint32_t key(float score) const {
    return by_bin ? static_cast<std::uint32_t>(host::ScoreHistogram::bin(score))
                  : static_cast<std::uint32_t>(__float_as_int(score));
  }
};

/// Of a granule that may freeze by its position: does its state let it?
__device__ inline bool is_retain_candidate(std::uint32_t state) {
  constexpr std::uint32_t held = host::GranuleState::fidelity_mask | host::GranuleState::pinned;
  return (state & held) == static_cast<std::uint32_t>(Fidelity::exact);
}

/// The candidates of a RetainLane.
struct GranuleScores {
  RetainLane const& lane;

  /// Calls f(score) for those of the thread.
  template <class F>
  __device__ void for_each(F const& f) const {
    float const* const scores = global(lane.scores);
    std::uint8_t const* const states = global(lane.states);
    for (int i = lane.low + static_cast<int>(threadIdx.x); i < lane.high; i += retain_threads) {
      if (is_retain_candidate(states[i])) {
        f(scores[i]);
      }
    }
  }
};

/// Shared memory of a RetainSearch.
struct RetainSearchStorage {
  static constexpr int bins = host::ScoreHistogram::bins;
  static constexpr int cells = 1024;
  static_assert(bins == retain_threads && cells == 2 * retain_threads);

  union {
    WarpSums<retain_threads> counts;
    WarpSums<retain_threads, std::uint64_t> sums;
  } scan;

  std::uint32_t counts[cells];
  std::uint32_t low[bins];  ///< sums of the bins' scores in fixed point
  std::uint32_t high[bins];
  std::uint32_t from[bins + 1];  ///< candidates in the bins from b on
  int found;
  std::uint32_t rest;
};

/// @brief Finds the edge of a selection by score: host::ScoreHistogram and host::split_bin, by a
/// block.
/// @tparam Scores of the candidates, as GranuleScores; their order does not matter
template <class Scores>
struct RetainSearch {
  using Storage = RetainSearchStorage;
  static constexpr int bins = Storage::bins;
  static constexpr int cells = Storage::cells;

  Scores const& scores;
  Storage& storage;

  template <class F>
  __device__ void for_each_candidate(F const& f) const {
    scores.for_each(f);
    __syncthreads();
  }

  /// By all threads of the block.
  __device__ RetainEdge find(Selection const& selection) const {
    auto const thread = static_cast<int>(threadIdx.x);
    bool const sums = selection.kind == Selection::Kind::mass;
    storage.counts[thread] = 0;
    storage.low[thread] = 0;
    storage.high[thread] = 0;
    if (thread == 0) {
      storage.found = bins;
      storage.rest = 0;
      storage.from[bins] = 0;
    }
    __syncthreads();
    for_each_candidate([&](float score) {
      int const bin = host::ScoreHistogram::bin(score);
      atomicAdd(&storage.counts[bin], 1U);
      if (sums) {
        std::uint64_t const fixed = host::ScoreHistogram::fixed(score);
        auto const low = static_cast<std::uint32_t>(fixed);
        bool const carries = atomicAdd(&storage.low[bin], low) > ~low;
        atomicAdd(&storage.high[bin],
                  static_cast<std::uint32_t>(fixed >> 32) + (carries ? 1U : 0U));
      }
    });
    std::uint32_t before = 0;
    std::uint32_t total = 0;
    scan_block<retain_threads>(storage.scan.counts, storage.counts[thread], before, total);
    storage.from[thread] = total - before;
    __syncthreads();
    std::uint32_t const k = wanted(selection);
    RetainEdge out;
    if (k >= total) {
      out.edge = 0;
      out.ties = RetainEdge::all;
      return out;
    }
    if (storage.from[thread] > k && storage.from[thread + 1] <= k) {
      storage.found = thread;
      storage.rest = k - storage.from[thread + 1];
    }
    __syncthreads();
    int const bin = storage.found;
    out.edge = static_cast<std::uint32_t>(bin);
    out.ties = storage.rest;
    out.by_bin = true;
    __syncthreads();
    if (out.ties != 0 && bin != 0 && bin != bins - 1) {
      split(out);
    }
    return out;
  }

 private:
  /// How many of the highest are wanted.
  __device__ std::uint32_t wanted(Selection const& selection) const {
    if (selection.kind == Selection::Kind::count) {
      return static_cast<std::uint32_t>(max(selection.count, 0));
    }
    // All but the lowest bins whose sums add up to at most the value.
    auto const thread = static_cast<int>(threadIdx.x);
    std::uint64_t const limit = host::ScoreHistogram::fixed(selection.value);
    std::uint64_t const own =
        storage.low[thread] + (static_cast<std::uint64_t>(storage.high[thread]) << 32);
    std::uint64_t before = 0;
    std::uint64_t all = 0;
    scan_block<retain_threads>(storage.scan.sums, own, before, all);
    if (before + own > limit) {  // the first bin that no longer fits ends what goes
      atomicMin(&storage.found, thread);
    }
    __syncthreads();
    std::uint32_t const left = storage.from[storage.found];
    __syncthreads();
    return left;
  }

  /// @brief From a bin to the bits of a score, by the scores' next ten bits and the last ten.
  __device__ void split(RetainEdge& out) const {
    auto const thread = static_cast<int>(threadIdx.x);
    std::uint32_t prefix = (out.edge + 704U) << 20;
    for (int shift = 10; shift >= 0; shift -= 10) {
      std::uint32_t const mask = ~((1U << (shift + 10)) - 1U);
      storage.counts[2 * thread] = 0;
      storage.counts[2 * thread + 1] = 0;
      if (thread == 0) {  // where the lowest cell is the one
        storage.found = 0;
      }
      __syncthreads();
      for_each_candidate([&](float score) {
        auto const bits = static_cast<std::uint32_t>(__float_as_int(score));
        if ((bits & mask) == prefix) {
          atomicAdd(&storage.counts[(bits >> shift) & 1023U], 1U);
        }
      });
      // From the highest cell down.
      int const cell = cells - 1 - 2 * thread;
      std::uint32_t own[2] = {storage.counts[cell], storage.counts[cell - 1]};
      std::uint32_t above[2];
      std::uint32_t all = 0;
      scan_block<retain_threads>(storage.scan.counts, own[0] + own[1], above[0], all);
      above[1] = above[0] + own[0];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (above[i] < out.ties && above[i] + own[i] >= out.ties) {
          storage.found = cell - i;
          storage.rest = out.ties - above[i];
        }
      }
      __syncthreads();
      prefix |= static_cast<std::uint32_t>(storage.found) << shift;
      out.ties = storage.rest;
      __syncthreads();
    }
    out.edge = prefix;
    out.by_bin = false;
  }
};

/// @brief The edge of a selection; of one that does not go by scores, everything or nothing. By all
/// threads of the block.
template <class Scores>
__device__ RetainEdge retain_edge(Selection const& selection, Scores const& scores,
                                  RetainSearchStorage& storage) {
  RetainEdge edge;  // nothing
  switch (selection.kind) {
    case Selection::Kind::all:
      edge.edge = 0;
      edge.ties = RetainEdge::all;
      break;
    case Selection::Kind::above:
      edge.edge = static_cast<std::uint32_t>(
          __float_as_int(selection.value > 0.0F ? selection.value : 0.0F));
      edge.ties = RetainEdge::all;
      break;
    case Selection::Kind::none:
    case Selection::Kind::recent:
      break;
    default:
      edge = RetainSearch<Scores>{scores, storage}.find(selection);
      break;
  }
  return edge;
}

template <class Scheduler, class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    retain_threads) void retain_kernel(Scheduler scheduler, Lanes lanes, RetainResult* results) {
  __shared__ RetainSearchStorage search;
  __shared__ typename RetainChunk::Storage order;
  auto const number = static_cast<int>(blockIdx.x);
  RetainLane const lane = lanes.lane(number);
  Selection const selection = kvfreeze::detail::as_count(
      kvfreeze::detail::among_open(scheduler.retain(lane.facts), lane.facts.protected_granules),
      lane.high - lane.low);
  bool const recent = selection.kind == Selection::Kind::recent;
  RetainEdge const edge = retain_edge(selection, GranuleScores{lane}, search);
  bool const by_score = selection.kind != Selection::Kind::all && !recent;
  auto const now = static_cast<std::uint16_t>(lane.facts.step);
  auto const steps = static_cast<std::uint32_t>(max(selection.count, 0));
  std::uint32_t ties = 0;        // seen in earlier chunks
  std::uint32_t low = 0;         // listed
  std::uint32_t candidates = 0;  // the thread's own
  int const granules = lane.facts.granules;
  for (int begin = 0; begin < granules; begin += RetainChunk::entries) {
    unsigned asked = 0;
    unsigned wanted = 0;
    unsigned tied = 0;
#pragma unroll
    for (int s = 0; s < RetainChunk::steps; ++s) {
      int const first = begin + RetainChunk::entry(s);
      int const n = min(max(granules - first, 0), 4);
      std::uint32_t const states = load_four(lane.states + first, n);
      float scores[4] = {};
      if (by_score && lane.scores != nullptr) {
        load_four(lane.scores + first, n, 0.0F, scores);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        int const granule = first + j;
        unsigned const flag = 1U << (4 * s + j);
        if (j >= n || granule < lane.low || granule >= lane.high ||
            !is_retain_candidate(byte_of(states, j))) {
          continue;
        }
        asked |= flag;
        if (recent) {
          auto const age = static_cast<std::uint16_t>(now - global(lane.stamps)[granule]);
          wanted |= age < steps ? flag : 0U;
          continue;
        }
        std::uint32_t const key = edge.key(scores[j]);
        wanted |= key > edge.edge ? flag : 0U;
        tied |= key == edge.edge ? flag : 0U;
      }
    }
    if (edge.ties == RetainEdge::all) {
      wanted |= tied;
    } else if (edge.ties != 0) {
      RetainChunk const places(tied, order);
#pragma unroll
      for (int s = 0; s < RetainChunk::steps; ++s) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          unsigned const flag = 1U << (4 * s + j);
          wanted |= ties + places.rank(tied, s, j) < edge.ties ? tied & flag : 0U;
        }
      }
      ties += places.total;
      __syncthreads();
    }
    unsigned const lows = asked & ~wanted;
    candidates += static_cast<std::uint32_t>(__popc(asked));
    RetainChunk const places(lows, order);
#pragma unroll
    for (int s = 0; s < RetainChunk::steps; ++s) {
      int const first = begin + RetainChunk::entry(s);
      std::uint32_t picks = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        int const bit = 4 * s + j;
        picks |= (((asked >> bit) & 1U) * RetainLane::candidate |
                  ((wanted >> bit) & 1U) * RetainLane::wanted)
                 << (8 * j);
        if (((lows >> bit) & 1U) != 0) {
          global(lane.low_list)[low + places.rank(lows, s, j)] =
              static_cast<std::uint32_t>(first + j);
        }
      }
      store_four(lane.picks + first, picks, min(max(granules - first, 0), 4));
    }
    low += places.total;
    __syncthreads();
  }
  __shared__ std::uint32_t sum;
  if (threadIdx.x == 0) {
    sum = 0;
  }
  __syncthreads();
  candidates = __reduce_add_sync(warp_mask, candidates);
  if (threadIdx.x % 32 == 0) {
    atomicAdd(&sum, candidates);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    results[number] = {sum, low};
  }
}

}  // namespace kvfreeze::gpu::detail
