#pragma once

/// @file
/// @brief Arithmetic of scorers that look at rows: one order of operations for host and device.

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>

#include <cmath>
#include <cstdint>

namespace kvfreeze::detail {

inline constexpr int most_lag = 4096;  ///< rows of a chunk that is ranked for itself

inline constexpr float nats_per_octave = 0.693147180559945309417F;

/// @brief sum of a[i] b[i], one fused multiply-add after the other.
KVFREEZE_HD inline float chained_dot(float const* a, float const* b, int n) noexcept {
  float sum = 0.0F;
  for (int i = 0; i < n; ++i) {
    sum = fused(a[i], b[i], sum);
  }
  return sum;
}

/// @brief The correctly rounded root on host and device.
KVFREEZE_HD inline float root(float x) noexcept {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}

/// @brief Adds key / ‖key‖ to `direction`; nothing where the key is 0.
KVFREEZE_HD inline void add_direction(float* direction, float const* key, int dim) noexcept {
  float const norm = root(chained_dot(key, key, dim));
  for (int i = 0; norm > 0.0F && i < dim; ++i) {
    direction[i] += quotient(key[i], norm);
  }
}

/// @brief e^x for x in [0, 1] within 3e-6, beyond that bounded and rising: x counts as at most 2.
KVFREEZE_HD inline float small_exp(float x) noexcept {
  float const y = clamped(x, 0.0F, 2.0F);
  float result = fused(1.0F / 40320.0F, y, 1.0F / 5040.0F);
  result = fused(result, y, 1.0F / 720.0F);
  result = fused(result, y, 1.0F / 120.0F);
  result = fused(result, y, 1.0F / 24.0F);
  result = fused(result, y, 1.0F / 6.0F);
  result = fused(result, y, 0.5F);
  result = fused(result, y, 1.0F);
  return fused(result, y, 1.0F);
}

/// @brief 2^x within 6 %, for ranking: the powers of two are exact, between them it is a line.
/// Bounded: x counts as at most 64 and at least -64.
KVFREEZE_HD inline float ranking_exp2(float x) noexcept {
  float const bounded = clamped(x, -64.0F, 64.0F) + 64.0F;
  auto const whole = static_cast<std::int32_t>(bounded);
  float const part = bounded - static_cast<float>(whole);
  auto const power = static_cast<std::uint32_t>(whole - 64 + 127) << 23U;
  return __builtin_bit_cast(float, power) * (1.0F + part);
}

}  // namespace kvfreeze::detail
