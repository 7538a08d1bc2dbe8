#pragma once

#include <kvfreeze/config.hpp>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief A number that many others are divided by on the device: by a multiplication, which takes
/// a sixth of a division's instructions. Otherwise it is the number.
///
/// Quotients of n below 2^31 are exact: the multiplier is 2^(31 + shift) / value, rounded up, and
/// 2^shift >= value, so that what the product has too much is less than 1 / value. (Granlund and
/// Montgomery, Division by Invariant Integers using Multiplication, theorem 4.2.)
class Divisor {
 public:
  /// @param value in [1, 2^31]
  KVFREEZE_HD constexpr Divisor(std::uint32_t value) noexcept : value_(value) {
    while (std::uint64_t{1} << shift_ < value) {
      ++shift_;
    }
    multiplier_ =
        static_cast<std::uint32_t>(((std::uint64_t{1} << (31U + shift_)) + value - 1U) / value);
  }

  KVFREEZE_HD constexpr operator std::uint32_t() const noexcept { return value_; }

  /// @param n below 2^31
  friend KVFREEZE_HD constexpr std::uint32_t operator/(std::uint32_t n, Divisor d) noexcept {
    return static_cast<std::uint32_t>((std::uint64_t{2U * n} * d.multiplier_) >> 32U) >> d.shift_;
  }

  /// @param n below 2^31
  friend KVFREEZE_HD constexpr std::uint32_t operator%(std::uint32_t n, Divisor d) noexcept {
    return n - n / d * d.value_;
  }

 private:
  std::uint32_t value_;
  std::uint32_t multiplier_ = 0;
  std::uint32_t shift_ = 0;
};

}  // namespace kvfreeze::gpu
