#pragma once

/// @file
/// @brief Arithmetic that host and device, any compiler and any flags round alike.

#include <kvfreeze/config.hpp>

#include <cmath>
#include <cstdint>

namespace kvfreeze::detail {

/// @brief a * b + c, rounded once. Written out because compilers may contract `a * b + c`, or not.
KVFREEZE_HD inline float fused(float a, float b, float c) noexcept {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

KVFREEZE_HD inline double fused(double a, double b, double c) noexcept {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

/// @brief a / b, rounded to nearest even where nvcc is told to use fast division.
KVFREEZE_HD inline float quotient(float a, float b) noexcept {
#ifdef __CUDA_ARCH__
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

/// @brief std::min, std::max and std::clamp to the bit, callable on the device: of equals the
/// first, and NaN as the comparisons have it.
template <class T>
KVFREEZE_HD constexpr T smaller(T a, T b) noexcept {
  return b < a ? b : a;
}

template <class T>
KVFREEZE_HD constexpr T larger(T a, T b) noexcept {
  return a < b ? b : a;
}

template <class T>
KVFREEZE_HD constexpr T clamped(T x, T low, T high) noexcept {
  return x < low ? low : (high < x ? high : x);
}

/// False for infinities and NaN, and unlike std::isfinite callable on the device.
KVFREEZE_HD constexpr bool is_finite(float x) noexcept { return x - x == 0.0F; }

/// @brief ⌊share * n⌋ for share in [0, 1] and n >= 0; the product is rounded to float first.
KVFREEZE_HD constexpr std::int32_t share_of(float share, std::int32_t n) noexcept {
  auto const whole = static_cast<float>(n);
  float const part = share * whole;
  return part < whole ? static_cast<std::int32_t>(part) : n;
}

/// @brief ⌊√n * 2^bits⌋, exactly. Needs bits <= 44. O(16 + bits) integer steps.
///
/// Long-hand square root, two binary digits of n for each digit of the root. No float is involved,
/// so every machine gets the same number.
KVFREEZE_HD constexpr std::uint64_t floor_sqrt_shifted(std::uint32_t n, int bits) noexcept {
  int digits = 16;
  while (digits > 1 && (n >> (2 * digits - 2)) == 0) {
    --digits;
  }
  std::uint64_t rest = 0;
  std::uint64_t root = 0;
  for (int i = digits - 1; i >= -bits; --i) {
    std::uint64_t const next = i >= 0 ? (n >> (2 * i)) & 3U : 0U;
    rest = (rest << 2) | next;
    std::uint64_t const trial = (root << 2) | 1U;
    root <<= 1;
    if (rest >= trial) {
      rest -= trial;
      root |= 1U;
    }
  }
  return root;
}

/// The divisors that `floor_sqrt_over` takes.
inline constexpr float sqrt_divisor_min = 0x1p-8F;
inline constexpr float sqrt_divisor_max = 0x1p16F;

/// @brief ⌊√n / k⌋, exactly for every n and every float k in [2^-8, 2^16].
///
/// k = m * 2^-s with integers m and s, so the answer is ⌊⌊√n * 2^s⌋ / m⌋ (dividing by an integer,
/// an inner floor changes nothing).
KVFREEZE_HD constexpr std::int32_t floor_sqrt_over(std::uint32_t n, float k) noexcept {
  auto const whole = static_cast<std::uint32_t>(k);
  if (static_cast<float>(whole) == k) {  // the usual case
    return static_cast<std::int32_t>(floor_sqrt_shifted(n, 0) / whole);
  }
  auto const code = __builtin_bit_cast(std::uint32_t, k);
  std::uint32_t const m = (code & 0x007FFFFFU) | 0x00800000U;
  int const s = 150 - static_cast<int>(code >> 23);
  return static_cast<std::int32_t>(floor_sqrt_shifted(n, s) / m);
}

}  // namespace kvfreeze::detail
