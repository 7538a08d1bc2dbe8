#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>

#include <cstdint>

namespace kvfreeze::detail {

/// @brief log2 of an integer >= 1 in units of 2^-16, within .008; integers, so that host and device
/// agree.
KVFREEZE_HD constexpr std::uint32_t fixed_log2(std::uint32_t n) noexcept {
  int exponent = 0;
  for (int step = 16; step > 0; step /= 2) {
    exponent += (n >> (exponent + step)) != 0 ? step : 0;
  }
  auto const x =
      static_cast<std::uint32_t>(((static_cast<std::uint64_t>(n) << 16U) >> exponent) & 0xFFFFU);
  // log2(1 + x) = x + c x (1 - x) for x in [0, 1), c chosen for the least error.
  std::uint32_t const bow = (x * (0x10000U - x)) >> 16U;
  return (static_cast<std::uint32_t>(exponent) << 16U) + x + ((bow * 22600U) >> 16U);
}

/// What a mass, in units of 2^-30, adds to its distribution's entropy: bits in units of 2^-46.
KVFREEZE_HD constexpr std::uint64_t entropy_term(std::uint32_t mass) noexcept {
  return mass == 0 ? 0 : mass * static_cast<std::uint64_t>((30U << 16U) - fixed_log2(mass));
}

/// @brief Entropy of masses that were summed up by `entropy_term`, in bits.
KVFREEZE_HD inline float entropy_bits(std::uint64_t sum) noexcept {
  return static_cast<float>(sum) * 0x1p-46F;
}

/// @brief A running mean with one more value, the `seen`-th, that differs from it by `difference`.
KVFREEZE_HD inline float running_mean(float mean, float difference, std::uint32_t seen) noexcept {
  return mean + quotient(difference, static_cast<float>(seen));
}

}  // namespace kvfreeze::detail
