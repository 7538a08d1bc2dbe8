#pragma once

/// @file
/// @brief Sums of |q.k| over the last queries of a lane, as integers: what a query added is taken
/// away again exactly.

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/dot_scores_kernels.cuh>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/step.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief One query token's contribution to a row's sum: |q.k| of all heads. By half a warp, whose
/// threads all have it; both halves call together. @see host::dot_contributions
/// @param chain thread of the half warp, which has the elements of one of host::dot's chains
template <class T>
__device__ std::uint32_t dot_contribution(Geometry const& g, T const* key, float const* query,
                                          int chain) {
  std::uint32_t total = 0;
  for (int h = 0; h < g.lane_queries; ++h) {
    int const first = h / g.group * g.head_dim;
    float x = 0.0F;
    for (int at = chain; at < g.head_dim; at += 16) {
      x = __fmaf_rn(query[h * g.head_dim + at], widened(key[first + at]), x);
    }
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2) {
      x = __fadd_rn(x, __shfl_xor_sync(0xFFFFFFFFU, x, distance));
    }
    total += fixed_dot(x, g.dot_limit);
  }
  return total;
}

/// @brief Position of the oldest query of the window that ends before `end`: a truncation leaves a
/// shorter one. @see host::forget_queries
template <class C>
__device__ int window_begin(LaneRef<C> const& ref, int end) {
  return max(ref.lane->first_query, end - ref.geometry->window_queries);
}

/// @brief The sum of a row with a key, as if it had never been away: over the window of
/// queries before that of position `end`. By one warp, whose threads all have it.
/// @see host::rebuild_sums
/// @complexity O(window) dot products
template <class C>
__device__ std::uint32_t rebuilt_sum(LaneRef<C> const& ref, typename C::Value const* key,
                                     int position, int end) {
  Geometry const& g = *ref.geometry;
  int const thread = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t sum = 0;
  for (int first = max(position, window_begin(ref, end)); first < end; first += 2) {
    int const own = first + thread / 16;
    std::uint32_t const dots =
        dot_contribution(g, key, ref.query_of(min(own, end - 1)), thread % 16);
    sum += own < end ? dots : 0U;
  }
  return sum + __shfl_xor_sync(0xFFFFFFFFU, sum, 16);
}

/// Writes the sums of a slot's rows over the queries before `end` beside them. By one warp.
template <class C>
__device__ void rebuild_sums(LaneRef<C> const& ref, std::uint32_t slot, int granule, int end) {
  int const rows = C::page == 1 ? 1 : ref.rows_of(static_cast<std::uint32_t>(granule));
  for (int row = 0; row < rows; ++row) {
    typename C::Value const* const key =
        ref.k(slot) + static_cast<std::ptrdiff_t>(row) * ref.geometry->row_elements;
    std::uint32_t const sum = rebuilt_sum(ref, key, granule * C::page + row, end);
    if (threadIdx.x % 32 == 0) {
      ref.sum(slot, row) = sum;
    }
  }
}

/// Mean |q.k| of a row from its sum, as host::mean_dot.
__device__ inline float mean_dot(std::uint32_t sum, int queries, int heads) {
  float const count = __fmul_rn(static_cast<float>(queries), static_cast<float>(heads));
  return queries <= 0 ? 0.0F : __fdiv_rn(static_cast<float>(sum), __fmul_rn(count, 4096.0F));
}

/// @brief Mean |q.k| of a row over the window of queries before that of position `end`.
template <class C>
__device__ float window_mean(LaneRef<C> const& ref, std::uint32_t sum, int position, int end) {
  return mean_dot(sum, end - max(position, window_begin(ref, end)), ref.geometry->lane_queries);
}

/// @brief Takes the step's queries into the sums of the exact rows and those that leave the window
/// out of them; the largest mean of a granule goes to its record. A warp a granule, lanes along y.
/// @see host::slide_window, host::note_means
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void slide_window_kernel(Geometry g, CacheMemory memory, LayerStep<C> s) {
  WorkLane const where(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  int const thread = static_cast<int>(threadIdx.x) % 32;
  int const newest = ref.lane->rows - 1;
  int const leaves = newest - g.window_queries;
  constexpr int warps = Threads / 32;
  int const first = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32;
  for (int i = first; i < ref.lane->slots; i += static_cast<int>(gridDim.x) * warps) {
    auto const slot = static_cast<std::uint32_t>(i);
    std::uint32_t const granule = ref.record(slot).granule;
    float best = 0.0F;  // of thread 0
    for (int row = 0; row < (C::page == 1 ? 1 : ref.rows_of(granule)); ++row) {
      int const position = static_cast<int>(granule) * C::page + row;
      bool const had_seen = leaves >= max(position, ref.lane->first_query);
      bool const upper = thread >= 16;
      float const* const query = ref.query_of(upper && had_seen ? leaves : newest);
      typename C::Value const* const key =
          ref.k(slot) + static_cast<std::ptrdiff_t>(row) * g.row_elements;
      std::uint32_t const dots = dot_contribution(g, key, query, thread % 16);
      std::uint32_t const out = __shfl_sync(0xFFFFFFFFU, dots, 16);
      if (thread == 0) {
        std::uint32_t const sum = ref.sum(slot, row) + dots - (had_seen ? out : 0U);
        ref.sum(slot, row) = sum;
        best = fmaxf(best, window_mean(ref, sum, position, newest + 1));
      }
    }
    if (thread == 0) {
      ref.record(slot).value = from_float<BFloat16>(best).bits;
    }
  }
}

}  // namespace kvfreeze::gpu::detail
