#pragma once

#include <kvfreeze/gpu/detail/row_source.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A warp's sums of weight * value of compact rows, by tensor cores: products of 16 channels
/// by 8 rows with 8 rows by 8 columns, TF32.
///
/// What codes stand for has no more than 11 bits and is multiplied as it is. Weights have 24: the
/// upper ones of four heads are four columns, what is left of them is the other four. Channels of a
/// product may be any: thread 4 g + t has `words` code words of four channels, from word
/// `words * g` on, of rows t and t + 4.
template <int Dim>
class CodeSums {
 public:
  static constexpr int words = Dim / 32;

  /// Columns of the thread for two rows' weights under head g % 4.
  struct Weights {
    std::uint32_t column[2];

    __device__ Weights(float first_row, float second_row)
        : column{part_of(first_row), part_of(second_row)} {}

   private:
    static __device__ std::uint32_t part_of(float weight) {
      constexpr std::uint32_t upper_bits = 0xFFFFE000U;
      std::uint32_t const upper = __float_as_uint(weight) & upper_bits;
      bool const is_upper = warp_thread() / 4 < warp_heads;
      return is_upper ? upper : __float_as_uint(weight - __uint_as_float(upper));
    }
  };

  /// Adds the products of one code word's channels.
  /// @param first, second of the thread's two rows
  __device__ void add(int word, float const (&first)[4], float const (&second)[4],
                      Weights const& weights) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float(&sum)[4] = sums_[2 * word + half];
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, {%0,%1,%2,%3};"
          : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
          : "r"(__float_as_uint(first[2 * half])), "r"(__float_as_uint(first[2 * half + 1])),
            "r"(__float_as_uint(second[2 * half])), "r"(__float_as_uint(second[2 * half + 1])),
            "r"(weights.column[0]), "r"(weights.column[1]));
    }
  }

  /// @param factor of head warp_thread() % warp_heads
  __device__ void scale(float factor) {
    int const head = first_head();
    float const even = __shfl_sync(0xFFFFFFFFU, factor, head);
    float const odd = __shfl_sync(0xFFFFFFFFU, factor, head + 1);
#pragma unroll
    for (float(&sum)[4] : sums_) {
      sum[0] *= even;
      sum[1] *= odd;
      sum[2] *= even;
      sum[3] *= odd;
    }
  }

  /// Puts the sums where the warp's are, [heads][Dim].
  template <class Source>
  __device__ void store(float (*to)[Dim]) const {
    int const head = first_head();
    bool const is_upper = warp_thread() % 4 < 2;
#pragma unroll
    for (int i = 0; i < 2 * words; ++i) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        float const x = sums_[i][c] + __shfl_xor_sync(0xFFFFFFFFU, sums_[i][c], 2);
        if (is_upper == (c < 2)) {  // one thread of two stores a channel
          to[head + c % 2][channel(i / 2, 2 * (i % 2) + c / 2)] = x;
        }
      }
    }
  }

 private:
  /// Of the thread's two columns, 2 t and the next.
  static __device__ int first_head() { return static_cast<int>(warp_thread() % 2 * 2); }

  /// Channel `part` of a word of the thread's.
  static __device__ int channel(int word, int part) {
    int const at = words * static_cast<int>(warp_thread() / 4) + word;
    return at / 16 * 64 + at % 16 + 16 * part;
  }

  float sums_[2 * words][4] = {};  ///< channels g and g + 8 under columns 2 t and 2 t + 1
};

}  // namespace kvfreeze::gpu::detail
