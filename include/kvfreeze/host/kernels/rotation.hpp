#pragma once

/// @file
/// @brief The Hadamard rotation: spreads the outliers of a vector over its channels, so that few
/// bits a channel hold it better (QuaRot, arXiv 2404.00456).

#include <kvfreeze/host/kernels/simd.hpp>

#include <cmath>
#include <cstddef>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

/// Lanes l and l ^ Distance change places.
template <int Distance>
F32x16 swap_lanes(F32x16 a) noexcept {
#if defined(KVFREEZE_ISA_AVX512)
  if constexpr (Distance == 1) {
    return {_mm512_maskz_permute_ps(0xFFFF, a.v, 0xB1)};
  } else if constexpr (Distance == 2) {
    return {_mm512_maskz_permute_ps(0xFFFF, a.v, 0x4E)};
  } else if constexpr (Distance == 4) {
    return {_mm512_maskz_shuffle_f32x4(0xFFFF, a.v, a.v, 0xB1)};
  } else {
    return {_mm512_maskz_shuffle_f32x4(0xFFFF, a.v, a.v, 0x4E)};
  }
#else
  float from[16];
  float to[16];
  store(from, a);
  for (int i = 0; i < 16; ++i) {
    to[i] = from[i ^ Distance];
  }
  return load(to);
#endif
}

/// One stage within lanes: sums where the lane's bit is clear, differences where it is set.
template <int Distance>
F32x16 butterfly(F32x16 a) noexcept {
  alignas(64) static constexpr auto signs = [] {
    struct {
      float lane[16];
    } out{};
    for (int i = 0; i < 16; ++i) {
      out.lane[i] = (i & Distance) != 0 ? -1.0F : 1.0F;
    }
    return out;
  }();
  return fma(a, load(signs.lane), swap_lanes<Distance>(a));
}

/// Rotates 16 * Vectors channels, a power of two.
template <int Vectors>
void rotate_block(float* v) noexcept {
  F32x16 x[Vectors];
  KVFREEZE_UNROLL
  for (int i = 0; i < Vectors; ++i) {
    x[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(load(v + 16 * i)))));
  }
  KVFREEZE_UNROLL
  for (int half = 1; half < Vectors; half *= 2) {
    KVFREEZE_UNROLL
    for (int i = 0; i < Vectors; ++i) {
      if ((i & half) == 0) {
        F32x16 const a = x[i];
        x[i] = add(a, x[i + half]);
        x[i + half] = sub(a, x[i + half]);
      }
    }
  }
  constexpr float scale = Vectors == 4 ? 0.125F : Vectors == 2 ? 0.17677669529663687F : 0.25F;
  KVFREEZE_UNROLL
  for (int i = 0; i < Vectors; ++i) {
    store(v + 16 * i, mul(x[i], splat(scale)));
  }
}

}  // namespace kernels

/// a[0..dim) -= b[0..dim); dim is a multiple of 8.
inline void subtract(float* a, float const* b, int dim) noexcept {
  for (int c = 0; c < dim; c += 16) {
    if (dim - c >= 16) {
      store(a + c, sub(load(a + c), load(b + c)));
    } else {
      store8(a + c, sub(load8(a + c), load8(b + c)));
    }
  }
}

/// a[0..dim) += weight * b[0..dim).
inline void add_scaled(float* a, float weight, float const* b, int dim) noexcept {
  for (int c = 0; c < dim; c += 16) {
    if (dim - c >= 16) {
      store(a + c, fma(splat(weight), load(b + c), load(a + c)));
    } else {
      store8(a + c, fma(splat(weight), load8(b + c), load8(a + c)));
    }
  }
}

/// @brief Multiplies v[0..dim) by orthonormal Hadamard matrices: blocks of 64 channels, then of 32
/// and 16; what is left over, 8 channels, stays as it is. Its own inverse.
/// @complexity O(dim)
inline void rotate(float* v, int dim) noexcept {
  int c = 0;
  for (; c + 64 <= dim; c += 64) {
    kernels::rotate_block<4>(v + c);
  }
  if (c + 32 <= dim) {
    kernels::rotate_block<2>(v + c);
    c += 32;
  }
  if (c + 16 <= dim) {
    kernels::rotate_block<1>(v + c);
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
