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

/// @brief The sum of a row that comes back, as if it had never been away: over the window of
/// queries before that of position `end`. By one warp, whose threads all have it.
/// @see host::rebuild_sums
/// @complexity O(window) dot products
template <class C>
__device__ std::uint32_t rebuilt_sum(LaneRef<C> const& ref, std::uint32_t slot, int position,
                                     int end) {
  Geometry const& g = *ref.geometry;
  int const thread = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t sum = 0;
  for (int first = max(position, window_begin(ref, end)); first < end; first += 2) {
    int const own = first + thread / 16;
    std::uint32_t const dots =
        dot_contribution(g, ref.k(slot), ref.query_of(min(own, end - 1)), thread % 16);
    sum += own < end ? dots : 0U;
  }
  return sum + __shfl_xor_sync(0xFFFFFFFFU, sum, 16);
}

/// Writes the sum of a row over the queries before `end` beside it. By one warp.
template <class C>
__device__ void rebuild_sum(LaneRef<C> const& ref, std::uint32_t slot, int position, int end) {
  std::uint32_t const sum = rebuilt_sum(ref, slot, position, end);
  if (threadIdx.x % 32 == 0) {
    ref.sum(slot) = sum;
  }
}

/// Mean |q.k| of a row from its sum, as host::mean_dot.
__device__ inline float mean_dot(std::uint32_t sum, int queries, int heads) {
  float const count = __fmul_rn(static_cast<float>(queries), static_cast<float>(heads));
  return queries <= 0 ? 0.0F : __fdiv_rn(static_cast<float>(sum), __fmul_rn(count, 4096.0F));
}

/// @brief Takes the step's queries into the sums of the exact rows and those that leave the window
/// out of them; the means go to the rows' records. A warp a row, lanes along y.
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
    host::SlotRecord& record = ref.record(slot);
    auto const position = static_cast<int>(record.granule);
    bool const had_seen = leaves >= max(position, ref.lane->first_query);
    bool const upper = thread >= 16;
    float const* const query = ref.query_of(upper && had_seen ? leaves : newest);
    std::uint32_t const dots = dot_contribution(g, ref.k(slot), query, thread % 16);
    std::uint32_t const out = __shfl_sync(0xFFFFFFFFU, dots, 16);
    if (thread == 0) {
      std::uint32_t const sum = ref.sum(slot) + dots - (had_seen ? out : 0U);
      ref.sum(slot) = sum;
      int const seen = newest + 1 - max(position, window_begin(ref, newest + 1));
      record.value = from_float<BFloat16>(mean_dot(sum, seen, g.lane_queries)).bits;
    }
  }
}

}  // namespace kvfreeze::gpu::detail
