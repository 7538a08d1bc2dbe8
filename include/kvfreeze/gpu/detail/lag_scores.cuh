#pragma once

/// @file
/// @brief Ranks of rows within chunks, by the ranges of the chunk that follows. @see LagScorer,
/// host/lag.hpp

#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Standard deviation over the channels of (x - low) / (high - low), unbiased.
/// @see host::ChannelRanges::deviation
__device__ inline float scaled_deviation(float const* x, float const* low, float const* high,
                                         int dim) {
  auto const scaled = [&](int d) {
    float const span = __fsub_rn(high[d], low[d]);
    return span > 0.0F ? kvfreeze::detail::quotient(__fsub_rn(x[d], low[d]), span) : 0.0F;
  };
  float sum = 0.0F;
  for (int d = 0; d < dim; ++d) {
    sum = __fadd_rn(sum, scaled(d));
  }
  float const mean = kvfreeze::detail::quotient(sum, static_cast<float>(dim));
  float squares = 0.0F;
  for (int d = 0; d < dim; ++d) {
    float const off = __fsub_rn(scaled(d), mean);
    squares = kvfreeze::detail::fused(off, off, squares);
  }
  return kvfreeze::detail::root(kvfreeze::detail::quotient(squares, static_cast<float>(dim - 1)));
}

/// @brief Ranks a lane's exact rows chunk by chunk. By a block of `Threads`, together.
template <class C, int Threads>
class LagRanking {
 public:
  struct Storage {
    static constexpr int floats = 7168;
    float tile[floats];  ///< rows whose deviations are taken, a thread each
    float low[256];      ///< of each channel in the chunk after
    float high[256];
    float total;  ///< weight of the chunk
  };

  __device__ LagRanking(LaneRef<C> const& ref, int lag, Storage& storage)
      : ref_(ref),
        shared_(storage),
        slots_(reinterpret_cast<std::uint32_t*>(ref.lone_scores)),
        score_(ref.lag_scores),
        weight_(ref.lag_scores + ref.geometry->max_granules),
        lag_(min(max(lag / C::page, 1), kvfreeze::detail::most_lag)) {}

  /// The first granule that is ranked.
  [[nodiscard]] __device__ int first_ranked() const {
    return (ref_.geometry->sinks + C::page - 1) / C::page;
  }

  /// @brief Leaves ranks in `lone_scores`, by granule, where a complete chunk follows. Larger
  /// granules count by their first row.
  /// @return the first granule from first_ranked() on that is not ranked
  __device__ int run() const {
    int const granules = ref_.granules();
    for (int i = thread(); i < granules; i += Threads) {
      slots_[i] = host::no_slot;
    }
    __syncthreads();
    for (int slot = thread(); slot < ref_.lane->slots; slot += Threads) {
      slots_[ref_.record(static_cast<std::uint32_t>(slot)).granule] =
          static_cast<std::uint32_t>(slot);
    }
    __syncthreads();
    int first = first_ranked();
    for (; first + 2 * lag_ <= granules; first += lag_) {
      rank(first);
    }
    return first;
  }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  /// Exact granules of the chunk that begins at a granule.
  [[nodiscard]] __device__ int present(int begin) const {
    int count = 0;
    for (int first = 0; first < lag_; first += Threads) {
      int const i = first + thread();
      count += __syncthreads_count(i < lag_ && slots_[begin + i] != host::no_slot);
    }
    return count;
  }

  [[nodiscard]] __device__ float element(std::uint32_t slot, bool key, int at) const {
    return widened((key ? ref_.k(slot) : ref_.v(slot))[at]);
  }

  /// Takes the next chunk's ranges, in the order of its rows.
  __device__ void find_ranges(int next, bool key, int offset) const {
    for (int d = thread(); d < ref_.geometry->head_dim; d += Threads) {
      float low = INFINITY;
      float high = -INFINITY;
      for (int i = next; i < next + lag_; ++i) {
        if (slots_[i] != host::no_slot) {
          float const x = element(slots_[i], key, offset + d);
          low = x < low ? x : low;
          high = high < x ? x : high;
        }
      }
      shared_.low[d] = low;
      shared_.high[d] = high;
    }
    __syncthreads();
  }

  /// Softmax weights of the chunk's rows before they are divided by their sum.
  __device__ void weigh(int begin, bool key, int offset) const {
    int const dim = ref_.geometry->head_dim;
    int const stride = dim + 1;  // odd: threads that go along their rows hit different banks
    int const most = min(Storage::floats / stride, Threads);
    for (int first = 0; first < lag_; first += most) {
      int const count = min(lag_ - first, most);
      for (int i = thread(); i < count * dim; i += Threads) {
        std::uint32_t const slot = slots_[begin + first + i / dim];
        if (slot != host::no_slot) {
          shared_.tile[i / dim * stride + i % dim] = element(slot, key, offset + i % dim);
        }
      }
      __syncthreads();
      int const at = begin + first + thread();
      if (thread() < count && slots_[at] != host::no_slot) {
        weight_[at] = kvfreeze::detail::small_exp(
            scaled_deviation(shared_.tile + thread() * stride, shared_.low, shared_.high, dim));
      }
      __syncthreads();
    }
  }

  __device__ void rank(int begin) const {
    int const count = present(begin);
    bool const follows = present(begin + lag_) > 0;
    for (int i = begin + thread(); i < begin + lag_; i += Threads) {
      score_[i] = 0.0F;
      weight_[i] = 1.0F;
    }
    __syncthreads();
    for (int head = 0; head < ref_.geometry->heads_per_lane; ++head) {
      for (bool const key : {true, false}) {
        if (follows) {
          find_ranges(begin + lag_, key, head * ref_.geometry->head_dim);
          weigh(begin, key, head * ref_.geometry->head_dim);
        }
        add_shares(begin);
      }
    }
    for (int i = begin + thread(); i < begin + lag_; i += Threads) {
      if (slots_[i] != host::no_slot) {
        // What is left of a chunk keeps the upper ranks: those that went were the lowest.
        weight_[i] = kvfreeze::detail::quotient(static_cast<float>(lag_ - count + below(begin, i)),
                                                static_cast<float>(lag_));
      }
    }
    __syncthreads();
    for (int i = begin + thread(); i < begin + lag_; i += Threads) {
      if (slots_[i] != host::no_slot) {
        ref_.lone_scores[i] = weight_[i];
      }
    }
    __syncthreads();
  }

  /// Each row's share of the chunk's weight goes to its score; one thread sums, in order.
  __device__ void add_shares(int begin) const {
    if (thread() == 0) {
      float total = 0.0F;
      for (int i = begin; i < begin + lag_; ++i) {
        total = slots_[i] != host::no_slot ? __fadd_rn(total, weight_[i]) : total;
      }
      shared_.total = total;
    }
    __syncthreads();
    for (int i = begin + thread(); i < begin + lag_; i += Threads) {
      if (slots_[i] != host::no_slot) {
        score_[i] = __fadd_rn(score_[i], kvfreeze::detail::quotient(weight_[i], shared_.total));
      }
    }
    __syncthreads();
  }

  /// Rows of the chunk that rank below one; of equals the older stays.
  [[nodiscard]] __device__ int below(int begin, int row) const {
    int count = 0;
    for (int i = begin; i < begin + lag_; ++i) {
      if (slots_[i] != host::no_slot) {
        count += score_[i] < score_[row] || (score_[i] == score_[row] && i > row) ? 1 : 0;
      }
    }
    return count;
  }

  LaneRef<C> const& ref_;
  Storage& shared_;
  std::uint32_t* slots_;  ///< by granule; a chunk's ranks take their place when it is done
  float* score_;          ///< by granule
  float* weight_;         ///< by granule
  int lag_;
};

/// @brief Scores of exact granules below `high`, by their ranks. By a block of `Threads`, together.
template <class C, int Threads>
__device__ void list_lag_scores(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                                std::uint32_t step, int high) {
  __shared__ typename LagRanking<C, Threads>::Storage storage;
  LagRanking<C, Threads> const ranking(ref, scorer.lag(), storage);
  int const end = ranking.run();
  for (int i = static_cast<int>(threadIdx.x); i < ref.lane->slots; i += Threads) {
    host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
    auto const granule = static_cast<int>(record.granule);
    if (granule < high) {
      RowEvidence row = recorded_evidence(ref, record, step);
      bool const ranked = granule >= ranking.first_ranked() && granule < end;
      row.rating = ranked ? ref.lone_scores[granule] : 1.0F;
      ref.lone_scores[granule] = score_by(ref, scorer, row, record.granule);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
