#pragma once

#include <cstdint>
#include <limits>

namespace kvfreeze::laws {

/// 32-bit generator, the same numbers everywhere; std::mt19937 hands out its in a wider type.
class Random {
 public:
  using result_type = std::uint32_t;

  explicit Random(std::uint64_t seed) : state_(seed) {}

  static constexpr result_type min() { return 0; }

  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  /// SplitMix64 (Steele, Lea, Flood 2014), upper half.
  result_type operator()() {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return static_cast<result_type>((x ^ (x >> 31)) >> 32);
  }

  /// In [0, n).
  result_type below(result_type n) { return (*this)() % n; }

  /// In [0, 1), 24 bits.
  float uniform() { return static_cast<float>((*this)() >> 8) * 0x1p-24F; }

 private:
  std::uint64_t state_;
};

}  // namespace kvfreeze::laws
