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

/// @brief Scores of exact rows by what rate() makes of them: as many rows at a time as fit shared
/// memory, where each has a thread. By a block of `Threads`, together. @see host::rate_granule
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
  for (int first = 0; first < slots; first += most) {
    int const count = min(slots - first, most);
    float sum = 0.0F;
    for (int head = 0; head < g.heads_per_lane; ++head) {
      for (int i = thread; i < count * dim; i += Threads) {
        auto const slot = static_cast<std::uint32_t>(first + i / dim);
        float* const row = tile + i / dim * stride + i % dim;
        row[0] = widened(ref.k(slot)[head * dim + i % dim]);
        row[dim] = widened(ref.v(slot)[head * dim + i % dim]);
      }
      __syncthreads();
      if (thread < count) {
        float const* const key = tile + thread * stride;
        sum = __fadd_rn(sum, scorer.rate({key, key + dim, dim}, lane_moments(ref, head)));
      }
      __syncthreads();
    }
    if (thread < count) {
      host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(first + thread));
      RowEvidence row = recorded_evidence(ref, record, step);
      float const mean = kvfreeze::detail::quotient(sum, static_cast<float>(g.heads_per_lane));
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
