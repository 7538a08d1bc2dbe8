#pragma once

/// @file
/// @brief |q.k| of four rows at once, as integers, with the queries in a block's shared memory.

#include <kvfreeze/gpu/detail/dot_scores_kernels.cuh>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/warp_fold.cuh>
#include <kvfreeze/gpu/geometry.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Query tokens of a lane in a block's shared memory. Where it has no room for two of them,
/// they are read from the lane.
struct QueryStage {
  static constexpr int room = 4096;

  float values[room];

  /// Floats from token to token: half-warps that read two of them use different banks.
  static __device__ int line(Geometry const& g) { return g.lane_queries * g.head_dim + 16; }

  /// Tokens at once, an even number.
  static __device__ int tokens(Geometry const& g) { return room / line(g) / 2 * 2; }

  /// @brief Copies a token. By all threads of a block.
  template <int Threads>
  __device__ void load(Geometry const& g, int place, float const* token) {
    int const elements = g.lane_queries * g.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < elements; i += Threads) {
      values[place * line(g) + i] = token[i];
    }
  }
};

/// @brief |q.k| of four rows under up to `Heads` heads of a query token. By half a warp, each
/// thread of which has the elements of one of host::dot's chains; both halves call together.
/// @param query of the first of the heads
/// @return what the thread has of its row, number threadIdx.x % 16 / 4; the four threads of a row
/// have all of it
template <int Heads, class T>
__device__ std::uint32_t dot_parts(T const* const (&keys)[4], float const* query, int heads,
                                   int head_dim, float limit) {
  int const chain = static_cast<int>(threadIdx.x) % 16;
  float x[4 * Heads] = {};
  for (int at = chain; at < head_dim; at += 16) {
    float q[Heads];
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      q[h] = query[min(h, heads - 1) * head_dim + at];
    }
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      float const k = widened(keys[row][at]);
#pragma unroll
      for (int h = 0; h < Heads; ++h) {
        x[row * Heads + h] = __fmaf_rn(q[h], k, x[row * Heads + h]);
      }
    }
  }
  float const dot = reduce<16>(x, chain, [](float a, float b) { return __fadd_rn(a, b); });
  constexpr int copies = 4 / Heads;  // threads that have the same
  bool const counts = chain % copies == 0 && chain % 4 / copies < heads;
  return counts ? fixed_dot(dot, limit) : 0U;
}

/// @brief dot_parts() under all heads of a lane. @see host::dot_contributions
template <class T>
__device__ std::uint32_t dot_parts(Geometry const& g, T const* const (&keys)[4],
                                   float const* query) {
  std::uint32_t total = 0;
  for (int first = 0; first < g.lane_queries; first += g.group) {
    int const channel = first / g.group * g.head_dim;
    T const* const own[4] = {keys[0] + channel, keys[1] + channel, keys[2] + channel,
                             keys[3] + channel};
    for (int h = 0; h < g.group; h += 4) {
      int const heads = min(g.group - h, 4);
      float const* const q = query + (first + h) * g.head_dim;
      total += heads == 1   ? dot_parts<1>(own, q, heads, g.head_dim, g.dot_limit)
               : heads == 2 ? dot_parts<2>(own, q, heads, g.head_dim, g.dot_limit)
                            : dot_parts<4>(own, q, heads, g.head_dim, g.dot_limit);
    }
  }
  return total;
}

/// Adds up what the four threads of a row have.
__device__ inline std::uint32_t sum_of_row(std::uint32_t part) {
  part += __shfl_xor_sync(whole_warp, part, 1);
  return part + __shfl_xor_sync(whole_warp, part, 2);
}

}  // namespace kvfreeze::gpu::detail
