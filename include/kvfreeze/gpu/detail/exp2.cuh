#pragma once

#include <kvfreeze/host/kernels/exp2.hpp>

namespace kvfreeze::gpu::detail {

/// @brief 2^x for x <= 0: the bits of host::exp2. Its own, because the instruction that devices
/// have for it is not specified to the bit.
/// @pre x is not NaN; minus infinity gives 0
__device__ inline float exp2_at_most_one(float x) {
  constexpr float c0 = host::kernels::exp2_coefficients[0];
  constexpr float c1 = host::kernels::exp2_coefficients[1];
  constexpr float c2 = host::kernels::exp2_coefficients[2];
  constexpr float c3 = host::kernels::exp2_coefficients[3];
  constexpr float c4 = host::kernels::exp2_coefficients[4];
  constexpr float c5 = host::kernels::exp2_coefficients[5];
  constexpr float shift = host::kernels::round_shift;
  float const bounded = fmaxf(x, -127.0F);
  float const shifted = __fadd_rn(bounded, shift);
  float const f = __fsub_rn(bounded, __fsub_rn(shifted, shift));
  float y = __fmaf_rn(c5, f, c4);
  y = __fmaf_rn(y, f, c3);
  y = __fmaf_rn(y, f, c2);
  y = __fmaf_rn(y, f, c1);
  y = __fmaf_rn(y, f, c0);
  y = __fmaf_rn(y, f, 1.0F);
  float const scaled = __uint_as_float(__float_as_uint(y) + (__float_as_uint(shifted) << 23));
  return x < -126.0F ? 0.0F : scaled;
}

/// @brief 2^x for x <= 0 by the device's own instruction, to 2^-22 of it; 0 for results below
/// 2^-126, exactly 1 for 0. For sums that no decision rests on: attention's.
__device__ inline float attention_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace kvfreeze::gpu::detail
