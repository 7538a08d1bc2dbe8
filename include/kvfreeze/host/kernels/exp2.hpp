#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/host/kernels/simd.hpp>

#include <bit>
#include <cstdint>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

using kvfreeze::detail::fused;

// 2^f = 1 + f * (c[0] + c[1] * f + ...) for |f| <= 1/2: Chebyshev interpolation, error below 2^-30.
inline constexpr float exp2_coefficients[6] = {0x1.62e430p-1F, 0x1.ebfbe0p-3F,  0x1.c6af6cp-5F,
                                               0x1.3b2a54p-7F, 0x1.5f0890p-10F, 0x1.44138ap-13F};

// Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
inline constexpr float round_shift = 0x1.8p23F;

}  // namespace kernels

/// @brief 2^x for x <= 0, in each lane. Within 2 units in the last place; 0 below -126.
/// @pre x is not NaN; -infinity gives 0
inline F32x16 exp2(F32x16 x) noexcept {
  auto const& c = kernels::exp2_coefficients;
  F32x16 const bounded = max(x, splat(-127.0F));
  F32x16 const shifted = add(bounded, splat(kernels::round_shift));
  F32x16 const f = sub(bounded, sub(shifted, splat(kernels::round_shift)));
  F32x16 y = splat(c[5]);
  for (int i = 4; i >= 0; --i) {
    y = fma(y, f, splat(c[i]));
  }
  y = fma(y, f, splat(1.0F));
  F32x16 const scaled = as_floats(add(as_ints(y), shift_left<23>(as_ints(shifted))));
  return select(less(x, splat(-126.0F)), splat(0.0F), scaled);
}

/// @brief The same for one number: the same bits as a lane.
inline float exp2(float x) noexcept {
  auto const& c = kernels::exp2_coefficients;
  float const bounded = x > -127.0F ? x : -127.0F;
  float const shifted = bounded + kernels::round_shift;
  float const f = bounded - (shifted - kernels::round_shift);
  float y = c[5];
  for (int i = 4; i >= 0; --i) {
    y = kernels::fused(y, f, c[i]);
  }
  y = kernels::fused(y, f, 1.0F);
  if (x < -126.0F) {
    return 0.0F;
  }
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(y) +
                              (std::bit_cast<std::uint32_t>(shifted) << 23));
}

/// @brief Binary logarithm of a positive normal number, relative error below 1e-15 but near 1,
/// where the absolute error is. Its own, because C libraries differ.
KVFREEZE_HD inline double log2(double x) noexcept {
  auto const bits = __builtin_bit_cast(std::uint64_t, x);
  // The mantissa in [sqrt(1/2), sqrt(2)), so that log2(1) is exactly 0.
  std::uint64_t const shifted = bits - 0x3FE6A09E667F3BCDULL;
  auto const exponent = static_cast<double>(static_cast<std::int64_t>(shifted) >> 52);
  auto const m =
      __builtin_bit_cast(double, (shifted & 0x000FFFFFFFFFFFFFULL) + 0x3FE6A09E667F3BCDULL);
  double const s = (m - 1.0) / (m + 1.0);
  double const square = s * s;
  double series = 1.0 / 21.0;  // atanh(s) / s; |s| < 0.172
  for (int odd = 19; odd >= 1; odd -= 2) {
    series = kernels::fused(series, square, 1.0 / odd);
  }
  constexpr double two_over_ln2 = 2.8853900817779268147;
  return kernels::fused(s * series, two_over_ln2, exponent);
}

/// @brief The same rounded to float; -infinity for 0.
KVFREEZE_HD inline float log2(float x) noexcept {
  return x > 0.0F ? static_cast<float>(log2(static_cast<double>(x))) : -__builtin_huge_valf();
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
