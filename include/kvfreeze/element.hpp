#pragma once

#include <kvfreeze/config.hpp>

#include <concepts>
#include <cstdint>

namespace kvfreeze {

/// IEEE binary16 as stored in the cache. A carrier of bits: arithmetic is done in float.
struct Half {
  std::uint16_t bits{};

  friend constexpr bool operator==(Half, Half) = default;
};

/// bfloat16 as stored in the cache. A carrier of bits: arithmetic is done in float.
struct BFloat16 {
  std::uint16_t bits{};

  friend constexpr bool operator==(BFloat16, BFloat16) = default;
};

/// The element types of K and V.
template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, Half> || std::same_as<T, BFloat16>;

/// @brief Exact value of an element.
KVFREEZE_HD constexpr float to_float(float x) noexcept { return x; }

KVFREEZE_HD constexpr float to_float(BFloat16 x) noexcept {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}

KVFREEZE_HD constexpr float to_float(Half x) noexcept {
  std::uint32_t const sign = static_cast<std::uint32_t>(x.bits & 0x8000U) << 16;
  std::uint32_t const magnitude = x.bits & 0x7FFFU;
  if (magnitude >= 0x7C00U) {  // infinity, NaN (made quiet, as the hardware does)
    std::uint32_t const quiet = magnitude > 0x7C00U ? 0x00400000U : 0U;
    return __builtin_bit_cast(float, sign | 0x7F800000U | ((magnitude & 0x03FFU) << 13) | quiet);
  }
  if (magnitude >= 0x0400U) {
    return __builtin_bit_cast(float, sign | ((magnitude << 13) + (112U << 23)));
  }
  float const subnormal = static_cast<float>(magnitude) * 0x1p-24F;
  return sign != 0 ? -subnormal : subnormal;
}

/// @brief Nearest element, ties to even; overflow gives infinity, NaN stays NaN.
template <Element T>
KVFREEZE_HD constexpr T from_float(float x) noexcept;

template <>
KVFREEZE_HD constexpr float from_float<float>(float x) noexcept {
  return x;
}

template <>
KVFREEZE_HD constexpr BFloat16 from_float<BFloat16>(float x) noexcept {
  auto const bits = __builtin_bit_cast(std::uint32_t, x);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    return {static_cast<std::uint16_t>((bits >> 16) | 0x0040U)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16)};
}

template <>
KVFREEZE_HD constexpr Half from_float<Half>(float x) noexcept {
  auto const bits = __builtin_bit_cast(std::uint32_t, x);
  auto const sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  std::uint32_t const magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) {
    return {static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x03FFU))};
  }
  if (magnitude >= 0x477FF000U) {  // rounds to 65536 or more
    return {static_cast<std::uint16_t>(sign | 0x7C00U)};
  }
  if (magnitude < 0x38800000U) {  // subnormal: the addition rounds to a multiple of 2^-24
    float const shifted = __builtin_bit_cast(float, magnitude) + 0.5F;
    return {static_cast<std::uint16_t>(sign |
                                       (__builtin_bit_cast(std::uint32_t, shifted) - 0x3F000000U))};
  }
  std::uint32_t const odd = (magnitude >> 13) & 1U;
  return {static_cast<std::uint16_t>(sign | ((magnitude - (112U << 23) + 0x0FFFU + odd) >> 13))};
}

}  // namespace kvfreeze
