#pragma once

#include <kvfreeze/host/kernels/exp2.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// Softmax mass of a row in units of 2^-30. Sums of masses are sums of integers: any order.
using Mass = std::uint32_t;

inline constexpr float mass_unit = 0x1p-30F;

/// @brief Nearest mass of a fraction in [0, 1].
inline Mass to_mass(float fraction) noexcept {
  return static_cast<Mass>(std::nearbyint(fraction * 0x1p30F));
}

inline float mass_to_float(std::uint64_t mass) noexcept {
  return static_cast<float>(mass) * mass_unit;
}

namespace kernels {

inline constexpr float weight_scale = 0x1p24F;  // unit of the weights that are summed as integers

/// Largest of n numbers, -infinity if n is 0.
inline float largest_of(float const* x, int n) noexcept {
  F32x16 highest = splat(-std::numeric_limits<float>::infinity());
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    highest = max(load(x + i), highest);
  }
  if (i < n) {
    highest = max(load_first(x + i, n - i, -std::numeric_limits<float>::infinity()), highest);
  }
  return largest(highest);
}

/// Replaces logits by 2^(logit - highest), multiples of 2^-24; returns the sum in that unit.
inline std::uint64_t integer_weights(float* logits, int n, float highest) noexcept {
  F32x16 const shift = splat(highest);
  F32x16 const scale = splat(weight_scale);
  std::uint64_t total = 0;
  std::int32_t lanes[16];
  for (int begin = 0; begin < n; begin += 1024) {  // 64 vectors: lanes stay below 2^31
    int const end = std::min(n, begin + 1024);
    I32x16 part = splat(0);
    int i = begin;
    for (; i + 16 <= end; i += 16) {
      I32x16 const weight = rounded(mul(exp2(sub(load(logits + i), shift)), scale));
      part = add(part, weight);
      store(logits + i, to_floats(weight));
    }
    if (i < end) {
      F32x16 const rest = load_first(logits + i, end - i, -std::numeric_limits<float>::infinity());
      I32x16 const weight = rounded(mul(exp2(sub(rest, shift)), scale));
      part = add(part, weight);
      store_first(logits + i, to_floats(weight), end - i);
    }
    store(lanes, part);
    for (std::int32_t const lane : lanes) {
      total += static_cast<std::uint32_t>(lane);
    }
  }
  return total;
}

}  // namespace kernels

/// @brief mass[i] = mean over heads of the softmax weight of row i.
///
/// Independent of the order of rows: weights become multiples of 2^-24 of the largest and are
/// summed as integers; a row's mass is a chain of fused multiply-adds over ascending heads, rounded
/// after every eighth.
/// @param logits `logits[h * stride + i]` in octaves, -infinity for rows that are left out;
///   overwritten
/// @param mass [n]
/// @param lse [heads] or null: log-sum-exp in octaves, -infinity if all rows are left out
/// @complexity O(heads * n)
inline void softmax_masses(float* logits, std::ptrdiff_t stride, int heads, int n, Mass* mass,
                           float* lse) noexcept {
  constexpr int heads_at_once = 8;
  std::fill(mass, mass + n, 0U);
  float const share = 0x1p30F / static_cast<float>(heads);
  for (int first = 0; first < heads; first += heads_at_once) {
    int const last = std::min(heads, first + heads_at_once);
    float scale[heads_at_once];
    for (int h = first; h < last; ++h) {
      float* const row = logits + h * stride;
      float const highest = kernels::largest_of(row, n);
      bool const some = highest > -std::numeric_limits<float>::infinity();
      std::uint64_t const total = kernels::integer_weights(row, n, some ? highest : 0.0F);
      auto const weight = static_cast<float>(total);
      scale[h - first] = total != 0 ? share / weight : 0.0F;
      if (lse != nullptr) {
        lse[h] =
            total != 0 ? highest + (log2(weight) - 24.0F) : -std::numeric_limits<float>::infinity();
      }
    }
    for (int i = 0; i < n; i += 16) {
      int const count = std::min(16, n - i);
      F32x16 m = splat(0.0F);
      for (int h = first; h < last; ++h) {
        float const* const row = logits + h * stride + i;
        m = fma(count == 16 ? load(row) : load_first(row, count, 0.0F), splat(scale[h - first]), m);
      }
      auto* const out = reinterpret_cast<std::int32_t*>(mass + i);
      if (count == 16) {
        store(out, add(load(out), rounded(m)));
      } else {
        store_first(out, add(load_first(out, count, 0), rounded(m)), count);
      }
    }
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
