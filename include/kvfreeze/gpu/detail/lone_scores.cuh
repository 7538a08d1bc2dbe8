#pragma once

/// @file
/// @brief What the scorer says of each exact row alone, where that is listed before rows are
/// ranked: neighbours or whole chunks take part in a score, or the rows themselves are read for it.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/detail/lag_scores.cuh>
#include <kvfreeze/gpu/detail/lane_moments.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Scores of exact granules by what rate() makes of their rows: as many granules at a time
/// as have room for a row each in shared memory, with a thread each. By a block of `Threads`,
/// together. @see host::rate_granule
template <class C, int Threads>
__device__ void list_rated_scores(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                                  std::uint32_t step, int high) {
  constexpr int floats = 7168;
  __shared__ float tile[floats];
  Geometry const& g = *ref.geometry;
  int const thread = static_cast<int>(threadIdx.x);
  int const dim = g.head_dim;
  int const stride = 2 * dim + 1;  // odd: threads that go along their rows hit different banks
  int const most = min(floats / stride, Threads);
  int const slots = ref.lane->slots;
  int const missing = slots * C::page - exact_rows<C>(*ref.lane);  // rows of the last slot
  for (int first = 0; first < slots; first += most) {
    int const count = min(slots - first, most);
    float sum = 0.0F;
    for (int at = 0; at < C::page * g.heads_per_lane; ++at) {  // rows, and of each its KV heads
      bool const lacks = at / g.heads_per_lane >= C::page - missing;
      int const have = lacks && first + count == slots ? count - 1 : count;
      for (int i = thread; i < have * dim; i += Threads) {
        auto const slot = static_cast<std::uint32_t>(first + i / dim);
        float* const row = tile + i / dim * stride + i % dim;
        row[0] = widened(ref.k(slot)[at * dim + i % dim]);
        row[dim] = widened(ref.v(slot)[at * dim + i % dim]);
      }
      __syncthreads();
      if (thread < have) {
        float const* const key = tile + thread * stride;
        LaneMoments const moments = lane_moments(ref, at % g.heads_per_lane);
        sum = __fadd_rn(sum, scorer.rate({key, key + dim, dim}, moments));
      }
      __syncthreads();
    }
    if (thread < count) {
      host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(first + thread));
      RowEvidence row = recorded_evidence(ref, record, step);
      int const rated = ref.rows_of(record.granule) * g.heads_per_lane;
      float const mean = kvfreeze::detail::quotient(sum, static_cast<float>(rated));
      row.rating = kvfreeze::detail::is_finite(mean) ? mean : 0.0F;
      if (static_cast<int>(record.granule) < high) {
        ref.lone_scores[record.granule] = score_by(ref, scorer, row, record.granule);
      }
    }
  }
}

/// @brief Scores of the exact rows at positions below `high`, each alone; 0 where the row is not
/// here. Nothing where scores are not listed. By a block of `Threads`, together.
template <class C, int Threads>
__device__ void list_lone_scores(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                                 std::uint32_t step, int high) {
  if constexpr (C::lists_scores) {
    int const thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < high; i += Threads) {
      ref.lone_scores[i] = 0.0F;
    }
    __syncthreads();
    if constexpr (C::rates) {
      list_rated_scores<C, Threads>(ref, scorer, step, high);
    } else if constexpr (C::lags) {
      list_lag_scores<C, Threads>(ref, scorer, step, high);
    } else {
      for (int i = thread; i < ref.lane->slots; i += Threads) {
        host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
        if (static_cast<int>(record.granule) < high) {
          ref.lone_scores[record.granule] = score_of(ref, scorer, record, step);
        }
      }
    }
    __syncthreads();
  }
}

/// @brief The score by which an exact row that may freeze is ranked. @see host::score_open
/// @param high as list_lone_scores() was told, which came before
template <class C>
__device__ float ranking_score(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                               host::SlotRecord const& record, std::uint32_t step, int high) {
  if constexpr (C::pools) {
    int const width = kvfreeze::detail::pooled_rows(scorer);
    if (width > 1) {
      return kvfreeze::detail::pooled(ref.lone_scores, high, static_cast<int>(record.granule),
                                      width);
    }
  }
  if constexpr (C::lists_scores) {
    return ref.lone_scores[record.granule];
  } else {
    return score_of(ref, scorer, record, step);
  }
}

}  // namespace kvfreeze::gpu::detail
