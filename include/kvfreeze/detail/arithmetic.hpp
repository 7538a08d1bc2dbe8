#pragma once

/// @file
/// @brief Float arithmetic that host and device, any compiler and any flags round alike.

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

/// @brief ⌊√n⌋. O(16) integer steps, one bit of the root each; no floats, so equal everywhere.
KVFREEZE_HD constexpr std::uint32_t floor_sqrt(std::uint32_t n) noexcept {
  std::uint32_t rest = n;
  std::uint32_t root = 0;
  for (std::uint32_t bit = 1U << 30; bit != 0; bit >>= 2) {
    if (rest >= root + bit) {
      rest -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return root;
}

/// False for infinities and NaN, and unlike std::isfinite callable on the device.
KVFREEZE_HD constexpr bool is_finite(float x) noexcept { return x - x == 0.0F; }

}  // namespace kvfreeze::detail
