#pragma once

#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// |q.k| of one logit, as host::fixed_dot.
__device__ inline std::uint32_t fixed_dot(float logit, float limit) {
  float const nats = __fmul_rn(fabsf(logit), kvfreeze::detail::nats_per_octave);
  return static_cast<std::uint32_t>(__fmul_rn(fminf(nats, limit), 4096.0F));
}

/// @brief Scores of the block's tiles, by granule.
/// @param offset from a run's masses to where its scores are written
__device__ inline void score_dots(LaneTiles const& tiles, LanePlace const& place, int heads,
                                  int page_shift, float limit, std::ptrdiff_t offset) {
  tiles.for_each(place, [&](int, LogitRun const& run, int row) {
    RowQuad<false> const quad(run, row, page_shift);
    std::uint32_t scores[4] = {};
    for (int first = 0; first < heads; first += rank_heads) {
      int const some = min(heads - first, rank_heads);
      float x[rank_heads][4];
      quad.load(run, first, some, x);
#pragma unroll
      for (int h = 0; h < rank_heads; ++h) {
        if (h < some) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            scores[j] += fixed_dot(x[h][j] == minus_infinity() ? 0.0F : x[h][j], limit);
          }
        }
      }
    }
#pragma unroll
    for (std::uint32_t& score : scores) {
      score /= static_cast<std::uint32_t>(heads);
    }
    int granules = quad.granules;
    if (page_shift != 0) {
      scores[0] = max(max(scores[0], scores[1]), max(scores[2], scores[3]));
      if (page_shift == 4) {
        scores[0] = max(scores[0], __shfl_xor_sync(warp_mask, scores[0], 1));
        scores[0] = max(scores[0], __shfl_xor_sync(warp_mask, scores[0], 2));
        granules = threadIdx.x % 4 == 0 ? granules : 0;
      }
    }
    store_four(run.masses + offset + quad.granule, scores, granules);
  });
}

template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads) void dot_scores_kernel(Lanes lanes, int heads, int page_shift, float limit) {
  __shared__ LaneTiles tiles;
  tiles.load(lanes, static_cast<int>(blockIdx.y));
  score_dots(tiles, place_in_grid(tiles), heads, page_shift, limit, 0);
}

}  // namespace kvfreeze::gpu::detail
