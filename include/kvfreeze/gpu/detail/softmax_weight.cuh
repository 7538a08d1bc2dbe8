#pragma once

/// @file
/// @brief Integer weights and their scale, to the bit those of host/kernels/masses.hpp.

#include <kvfreeze/gpu/logit_run.cuh>
#include <kvfreeze/host/kernels/exp2.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr unsigned warp_mask = 0xFFFFFFFFU;

__device__ inline float minus_infinity() { return __int_as_float(static_cast<int>(0xFF800000U)); }

/// @brief 2^(24 + logit - highest) to the nearest integer, as a float. @see
/// host::kernels::integer_weights
/// @param minus_highest with logit <= highest; whatever is not a number weighs nothing
__device__ inline float softmax_weight(float logit, float minus_highest) {
  constexpr auto unit = static_cast<float>(1 << host::kernels::weight_bits);
  constexpr float c0 = host::kernels::coarse_exp2_coefficients[0] * unit;
  constexpr float c1 = host::kernels::coarse_exp2_coefficients[1] * unit;
  constexpr float c2 = host::kernels::coarse_exp2_coefficients[2] * unit;
  constexpr float c3 = host::kernels::coarse_exp2_coefficients[3] * unit;
  constexpr float shift = host::kernels::round_shift;
  float const bounded = fmaxf(__fadd_rn(logit, minus_highest), -32.0F);  // weighs 0 all the same
  float const n = __fadd_rn(bounded, shift);
  float const f = __fsub_rn(bounded, __fsub_rn(n, shift));
  float y = __fmaf_rn(c3, f, c2);
  y = __fmaf_rn(y, f, c1);
  y = __fmaf_rn(y, f, c0);
  y = __fmaf_rn(y, f, unit);
  auto const bits =
      static_cast<unsigned>(__float_as_int(y)) + (static_cast<unsigned>(__float_as_int(n)) << 23);
  return rintf(__int_as_float(static_cast<int>(bits)));
}

/// Key of a logit: orders as the logits do, and 0 is below every key.
__device__ inline std::uint32_t logit_key(float logit) {
  auto const bits = static_cast<std::uint32_t>(__float_as_int(logit));
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// The logit of a key; minus infinity for 0.
__device__ inline float logit_of(std::uint32_t key) {
  constexpr std::uint32_t least = 0x007FFFFFU;  // the key of minus infinity
  std::uint32_t const k = key > least ? key : least;
  std::uint32_t const bits = (k & 0x80000000U) != 0 ? k & 0x7FFFFFFFU : ~k;
  return __int_as_float(static_cast<int>(bits));
}

/// What weights are relative to: 0 where no row takes part.
__device__ inline float minus_reference(float highest) {
  return highest > minus_infinity() ? -highest : 0.0F;
}

/// @brief Sum over a warp of integers below 2^54.
__device__ inline std::uint64_t warp_sum(std::uint64_t x) {
  constexpr int low_bits = 27;
  auto const low = static_cast<unsigned>(x) & ((1U << low_bits) - 1U);
  auto const high = static_cast<unsigned>(x >> low_bits);
  std::uint64_t const sum = __reduce_add_sync(warp_mask, high);
  return (sum << low_bits) + __reduce_add_sync(warp_mask, low);
}

}  // namespace kvfreeze::gpu::detail
