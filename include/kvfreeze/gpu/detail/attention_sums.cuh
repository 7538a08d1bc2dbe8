#pragma once

#include <kvfreeze/gpu/detail/exp2.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>

#include <cstddef>
#include <type_traits>

namespace kvfreeze::gpu::detail {

/// @brief A warp's sums of weight * value of exact rows, eight channels a thread; `Dim / 8` threads
/// share a row.
template <int Dim>
struct RowSums {
  float sums[warp_heads][thread_channels] = {};

  /// @param factor of head warp_thread() % warp_heads
  __device__ void scale(float factor) {
#pragma unroll
    for (int h = 0; h < warp_heads; ++h) {
      float const of_head = __shfl_sync(0xFFFFFFFFU, factor, h);
#pragma unroll
      for (float& x : sums[h]) {
        x *= of_head;
      }
    }
  }

  /// @brief Puts the sums where the warp's are, [heads][Dim]. Threads that have the same channels
  /// of other rows each end up with some of the heads.
  /// @tparam Source says which channels: the thread's i-th is `channel(i)`, and so are the three
  ///   behind it if i is a multiple of 4
  template <class Source>
  __device__ void store(float (*to)[Dim]) const {
    unsigned const t = warp_thread();
    if constexpr (Dim == 256) {
      store_heads<Source>(sums, to);
    } else {
      float half[2][thread_channels];
      add_partners<16>(sums, half);
      if constexpr (Dim == 128) {
        store_heads<Source>(half, to + t / 16 * 2);
      } else {
        float quarter[1][thread_channels];
        add_partners<8>(half, quarter);
        store_heads<Source>(quarter, to + t / 8);
      }
    }
  }

 private:
  /// Sums of threads t and t ^ Distance: one has the first half of the heads, one the second.
  template <unsigned Distance, int Heads>
  static __device__ void add_partners(float const (&x)[2 * Heads][thread_channels],
                                      float (&out)[Heads][thread_channels]) {
    bool const upper = (warp_thread() & Distance) != 0;
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
#pragma unroll
      for (int i = 0; i < thread_channels; ++i) {
        float const given = upper ? x[h][i] : x[h + Heads][i];
        float const kept = upper ? x[h + Heads][i] : x[h][i];
        out[h][i] = kept + __shfl_xor_sync(0xFFFFFFFFU, given, static_cast<int>(Distance));
      }
    }
  }

  template <class Source, int Heads>
  static __device__ void store_heads(float const (&x)[Heads][thread_channels], float (*to)[Dim]) {
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      *reinterpret_cast<float4*>(to[h] + Source::channel(0)) =
          float4{x[h][0], x[h][1], x[h][2], x[h][3]};
      *reinterpret_cast<float4*>(to[h] + Source::channel(4)) =
          float4{x[h][4], x[h][5], x[h][6], x[h][7]};
    }
  }
};

/// @brief Attention of a warp's heads over the tiles that it computes.
/// @tparam Values sums of values: RowSums, CodeSums
template <class Values>
struct AttentionSums {
  float max = lowest_logit();  ///< of the thread's head, octaves; the same in all its threads
  float sum = 0.0F;            ///< weights of the thread's rows
  Values values;

  /// @param weights [tile_rows], the warp's own
  template <RowSource Source>
  __device__ void take(Source const& source, std::byte const* slot, TileSpan tile,
                       typename Source::Given const& given, int heads, float4* weights) {
    constexpr int count = Source::tile_rows / 8;
    unsigned const row = warp_thread() / warp_heads;
    [[maybe_unused]] unsigned const head = warp_thread() % warp_heads;
    float logit[count];
    source.logits(slot, given, logit);
    source.note(tile, logit);
    float here = lowest_logit();
#pragma unroll
    for (unsigned i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<typename Source::Given, NoLogits>) {
        bool const there = row + 8 * i < tile.rows && head < static_cast<unsigned>(heads);
        logit[i] = there ? logit[i] : lowest_logit();
      }
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
    float const factor = attention_exp2(before - origin);
    sum *= factor;
    __syncwarp();  // the weights of the tile before are no longer needed
#pragma unroll
    for (unsigned i = 0; i < count; ++i) {
      float const weight = attention_exp2(logit[i] - origin);
      sum += weight;
      reinterpret_cast<float*>(weights)[32 * i + warp_thread()] =
          weight * source.factor(slot, row + 8 * i);
    }
    __syncwarp();
    if (__any_sync(0xFFFFFFFFU, factor != 1.0F)) {
      values.scale(factor);
    }
    source.accumulate(slot, weights, values);
  }
};

}  // namespace kvfreeze::gpu::detail
