#pragma once

#include <kvfreeze/gpu/detail/exp2.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Attention of a warp's heads over the tiles that it computes.
struct AttentionSums {
  float max = lowest_logit();  ///< of the thread's head, octaves; the same in all its threads
  float sum = 0.0F;            ///< weights of the thread's rows
  float out[warp_heads][thread_channels] = {};

  /// @param weights [tile_rows], the warp's own
  template <RowSource Source>
  __device__ void take(Source const& source, std::byte const* slot, TileSpan tile,
                       typename Source::Given const& given, int heads, float4* weights) {
    constexpr int count = Source::tile_rows / 8;
    unsigned const row = warp_thread() / warp_heads;
    unsigned const head = warp_thread() % warp_heads;
    float logit[count];
    source.logits(slot, given, logit);
    source.note(tile, logit);
    float here = lowest_logit();
#pragma unroll
    for (unsigned i = 0; i < count; ++i) {
      bool const there = row + 8 * i < tile.rows && head < static_cast<unsigned>(heads);
      logit[i] = there ? logit[i] : lowest_logit();
      here = fmaxf(here, logit[i]);
    }
#pragma unroll
    for (int distance = warp_heads; distance < 32; distance *= 2) {
      here = fmaxf(here, __shfl_xor_sync(0xFFFFFFFFU, here, distance));
    }
    float const before = max;
    max = fmaxf(before, here);
    // 2^(-inf - -inf) would be NaN: rows of which all logits are -inf weigh nothing.
    float const origin = max > lowest_logit() ? max : 0.0F;
    float const factor = exp2_at_most_one(before - origin);
    sum *= factor;
    __syncwarp();  // the weights of the tile before are no longer needed
#pragma unroll
    for (unsigned i = 0; i < count; ++i) {
      float const weight = exp2_at_most_one(logit[i] - origin);
      sum += weight;
      reinterpret_cast<float*>(weights)[32 * i + warp_thread()] =
          weight * source.factor(slot, row + 8 * i);
    }
    __syncwarp();
    if (__any_sync(0xFFFFFFFFU, factor != 1.0F)) {
#pragma unroll
      for (int h = 0; h < warp_heads; ++h) {
        float const of_head = __shfl_sync(0xFFFFFFFFU, factor, h);
#pragma unroll
        for (float& x : out[h]) {
          x *= of_head;
        }
      }
    }
    source.accumulate(slot, weights, out);
  }
};

}  // namespace kvfreeze::gpu::detail
