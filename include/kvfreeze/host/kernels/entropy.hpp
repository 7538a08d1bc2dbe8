#pragma once

#include <kvfreeze/host/kernels/exp2.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief What one pass over logits tells.
struct LogitSums {
  float highest = -std::numeric_limits<float>::infinity();
  std::size_t first_highest = 0;  ///< index of the first logit that is `highest`
  double sum = 0.0;               ///< of e^(logit - highest)
  double weighted = 0.0;          ///< of e^(logit - highest) * (logit - highest)
  bool valid = true;              ///< no NaN and no +infinity
};

namespace kernels {

template <Element T>
F32x16 load_first_or_minus_infinity(T const* p, std::size_t n) noexcept {
  float x[16];
  for (std::size_t i = 0; i < 16; ++i) {
    x[i] = i < n ? to_float(p[i]) : -std::numeric_limits<float>::infinity();
  }
  return load(x);
}

inline double sum(F64x16 a) noexcept {
  double x[16];
  store(x, a);
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) {
      x[i] += x[i + n];
    }
  }
  return x[0];
}

}  // namespace kernels

/// @brief Sums over n logits, blocks of 1,024: from memory once, then twice from the cache.
///
/// Exponentials are floats, sums are sixteen chains of doubles and a tree. Stops at a block that
/// is not valid.
template <Element T>
LogitSums logit_sums(T const* logits, std::size_t n) noexcept {
  constexpr std::size_t block = 1024;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float lowest = -200.0F;  // nats; e^-200 is 0 as a float, and 0 * lowest is no NaN
  F32x16 const log2_e = splat(1.44269504F);
  LogitSums result;
  F64x16 sum = splat(0.0);
  F64x16 weighted = splat(0.0);
  std::size_t highest_block = 0;
  for (std::size_t begin = 0; begin < n; begin += block) {
    std::size_t const end = std::min(n, begin + block);
    auto const get = [&](std::size_t i) {
      return i + 16 <= end ? load(logits + i)
                           : kernels::load_first_or_minus_infinity(logits + i, end - i);
    };
    F32x16 here = splat(-infinity);
    F32x16 poison = splat(0.0F);
    for (std::size_t i = begin; i < end; i += 16) {
      F32x16 const x = get(i);
      here = max(x, here);
      poison = select(unordered(x), x, poison);
    }
    float const highest = largest(here);
    if (any(unordered(poison)) || highest == infinity) {
      result.valid = false;
      return result;
    }
    if (highest > result.highest) {
      if (result.highest > -infinity) {
        float const shift = std::max(result.highest - highest, lowest);
        F64x16 const factor = splat(static_cast<double>(exp2(shift * 1.44269504F)));
        weighted = fma(factor, fma(splat(static_cast<double>(shift)), sum, weighted), splat(0.0));
        sum = fma(factor, sum, splat(0.0));
      }
      result.highest = highest;
      highest_block = begin;
    }
    if (result.highest == -infinity) {
      continue;
    }
    F32x16 const origin = splat(result.highest);
    for (std::size_t i = begin; i < end; i += 16) {
      F32x16 const distance = max(sub(get(i), origin), splat(lowest));
      F64x16 const weight = to_doubles(exp2(mul(distance, log2_e)));
      sum = add(sum, weight);
      weighted = fma(weight, to_doubles(distance), weighted);
    }
  }
  result.sum = kernels::sum(sum);
  result.weighted = kernels::sum(weighted);
  result.first_highest = highest_block;
  while (result.first_highest < n && to_float(logits[result.first_highest]) != result.highest) {
    ++result.first_highest;
  }
  return result;
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
