#pragma once

/// @file
/// @brief What a lane knows of its rows and queries as a whole. @see host/moments.hpp

#include <kvfreeze/detail/mass_entropy.hpp>
#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/evidence.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr std::uint32_t most_mean_queries = host::MomentCount::most;

/// One KV head's moments: [direction][queries][squares].
template <class C>
__device__ float* head_moments(LaneRef<C> const& ref, int head) {
  Geometry const& g = *ref.geometry;
  return ref.moments + static_cast<std::ptrdiff_t>(head) * (1 + 2 * g.group) * g.head_dim;
}

template <class C>
__device__ LaneMoments lane_moments(LaneRef<C> const& ref, int head) {
  Geometry const& g = *ref.geometry;
  float const* const first = head_moments(ref, head);
  return {first, first + g.head_dim,
          first + g.head_dim + static_cast<std::ptrdiff_t>(g.group) * g.head_dim, g.group,
          __fmul_rn(g.octaves, kvfreeze::detail::nats_per_octave)};
}

/// @brief Takes a token's queries into the running means; their number is the caller's to count. By
/// the whole block.
/// @param q the lane's queries, [lane_queries][head_dim]
/// @param seen queries in the means, this one included
/// @see host::note_query_moments
template <class C, class Input, int Threads>
__device__ void note_query_moments(LaneRef<C> const& ref, Input const* q, std::uint32_t seen) {
  Geometry const& g = *ref.geometry;
  int const n = g.group * g.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < g.heads_per_lane * n; i += Threads) {
    float* const mean = head_moments(ref, i / n) + g.head_dim + i % n;
    float* const square = mean + n;
    float const x = to_float(q[i]);
    *mean = kvfreeze::detail::running_mean(*mean, __fsub_rn(x, *mean), seen);
    *square = kvfreeze::detail::running_mean(*square, __fmaf_rn(x, x, -*square), seen);
  }
}

/// @brief Adds a new row's keys to the lane's direction. By the whole block, each thread of which
/// follows the one chain of the norm. @see host::note_direction
/// @param k the row's keys as they are stored, [heads_per_lane][head_dim]
template <class C, int Threads>
__device__ void note_direction(LaneRef<C> const& ref, typename C::Value const* k) {
  Geometry const& g = *ref.geometry;
  for (int head = 0; head < g.heads_per_lane; ++head) {
    typename C::Value const* const key = k + static_cast<std::ptrdiff_t>(head) * g.head_dim;
    float kk = 0.0F;
    for (int d = 0; d < g.head_dim; ++d) {
      float const x = widened(key[d]);
      kk = __fmaf_rn(x, x, kk);
    }
    float const norm = __fsqrt_rn(kk);
    float* const direction = head_moments(ref, head);
    for (int d = static_cast<int>(threadIdx.x); norm > 0.0F && d < g.head_dim; d += Threads) {
      direction[d] = __fadd_rn(direction[d], __fdiv_rn(widened(key[d]), norm));
    }
  }
}

}  // namespace kvfreeze::gpu::detail
