#pragma once

/// @file
/// @brief Softmax masses: how much of attention each row gets, as integers.

#include <kvfreeze/host/kernels/exp2.hpp>
#include <kvfreeze/host/kernels/simd_masses.hpp>
#include <kvfreeze/host/kernels/tile.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

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

/// @brief Rows whose logits lie side by side: a part of those that share one softmax.
struct LogitRun {
  static constexpr std::uint8_t state_bits = 0x07;  ///< of a state: how the row is kept
  static constexpr std::uint8_t taking_part = 2;    ///< their value for rows that count: frozen

  float* logits = nullptr;    ///< `logits[h * stride + i]` of head h and row i, octaves
  std::ptrdiff_t stride = 0;  ///< from head to head
  int rows = 0;
  std::uint8_t const* states = nullptr;  ///< [rows]: which rows take part; null: all of them
  Mass* masses = nullptr;                ///< [rows]
};

namespace kernels {

// 2^f = 1 + f * (c[0] + c[1] * f + ...) for |f| <= 1/2, relative error below 2^-18.4: enough to
// rank rows by, and two multiply-adds less than `exp2`.
inline constexpr float coarse_exp2_coefficients[4] = {0x1.62e12cp-1F, 0x1.ec0378p-3F,
                                                      0x1.c9fc48p-5F, 0x1.3a02d2p-7F};

inline constexpr int weight_bits = 24;  // weights are multiples of 2^-24 of the largest

/// The integer nearest 2^(24 + x), x <= 0, in each lane; relative error of 2^x below 2^-18.4.
inline I32x16 integer_weights(F32x16 x) noexcept {
  auto const coefficient = [](int i) {
    return splat(coarse_exp2_coefficients[i] * static_cast<float>(1 << weight_bits));
  };
  auto const polynomial = [&](F32x16 f) {
    F32x16 y = coefficient(3);
    for (int i = 2; i >= 0; --i) {
      y = fma(y, f, coefficient(i));
    }
    return fma(y, f, splat(static_cast<float>(1 << weight_bits)));
  };
#if defined(KVFREEZE_ISA_AVX512)
  // The hardware's scaling gives 0 far below and for minus infinity, whatever the polynomial.
  __m512 const n = _mm512_maskz_roundscale_ps(0xFFFF, x.v, 0x08);
  F32x16 const y = polynomial(sub(x, {n}));
  return rounded(F32x16{_mm512_maskz_scalef_ps(0xFFFF, y.v, n)});
#else
  F32x16 const bounded = max(x, splat(-32.0F));  // rounds to 0 all the same
  F32x16 const shifted = add(bounded, splat(round_shift));
  F32x16 const y = polynomial(sub(bounded, sub(shifted, splat(round_shift))));
  return rounded(as_floats(add(as_ints(y), shift_left<23>(as_ints(shifted)))));
#endif
}

/// Calls f(i, n, logits) for each 16 rows of head h, n of them in the run; rows that do not take
/// part come as minus infinity.
template <class F>
[[gnu::always_inline]] inline void for_each_16(LogitRun const& run, int h, int begin, int end,
                                               F const& f) noexcept {
  float const* const row = run.logits + h * run.stride;
  F32x16 const out = splat(minus_infinity);
  int i = begin;
  if (run.states == nullptr) {
    for (; i + 16 <= end; i += 16) {
      f(i, 16, load(row + i));
    }
  } else {
    for (; i + 16 <= end; i += 16) {
      Mask16 const in = equal_bits(run.states + i, LogitRun::state_bits, LogitRun::taking_part);
      f(i, 16, select(in, load(row + i), out));
    }
  }
  if (i < end) {
    F32x16 rest = load_first(row + i, end - i, minus_infinity);
    if (run.states != nullptr) {
      rest = select(
          equal_bits_first(run.states + i, end - i, LogitRun::state_bits, LogitRun::taking_part),
          rest, out);
    }
    f(i, end - i, rest);
  }
}

/// Largest of n numbers, -infinity if n is 0.
inline float largest_of(float const* x, int n) noexcept {
  F32x16 highest[4];
  KVFREEZE_UNROLL
  for (auto& v : highest) {
    v = splat(minus_infinity);
  }
  int i = 0;
  for (; i + 64 <= n; i += 64) {
    KVFREEZE_UNROLL
    for (int j = 0; j < 4; ++j) {
      highest[j] = max(load(x + i + 16 * j), highest[j]);
    }
  }
  for (; i < n; i += 16) {
    highest[0] =
        max(n - i >= 16 ? load(x + i) : load_first(x + i, n - i, minus_infinity), highest[0]);
  }
  return largest(max(max(highest[0], highest[1]), max(highest[2], highest[3])));
}

/// Largest logit of head h, minus infinity if no row takes part.
inline float largest_logit(std::span<LogitRun const> runs, int h) noexcept {
  F32x16 highest = splat(minus_infinity);
  for (LogitRun const& run : runs) {
    for_each_16(run, h, 0, run.rows, [&](int, int, F32x16 x) { highest = max(x, highest); });
  }
  return largest(highest);
}

/// Replaces logits of head h by integer weights, as floats; returns their sum.
inline std::uint64_t weigh_logits(LogitRun const& run, int h, float highest) noexcept {
  constexpr int step = 16 * 128;  // lanes stay below 2^32
  F32x16 const shift = splat(highest);
  float* const row = run.logits + h * run.stride;
  WideSum total;
  for (int begin = 0; begin < run.rows; begin += step) {
    I32x16 part = splat(0);
    for_each_16(run, h, begin, std::min(run.rows, begin + step), [&](int i, int n, F32x16 x) {
      I32x16 const weight = integer_weights(sub(x, shift));
      part = add(part, weight);
      if (n == 16) {
        store(row + i, to_floats(weight));
      } else {
        store_first(row + i, to_floats(weight), n);
      }
    });
    total.add(part);
  }
  return total.total();
}

/// masses (+)= sum over `heads` heads from `first` on of weight * scale[h], rounded.
template <bool Add>
void combine_heads(LogitRun const& run, int first, int heads, float const* scale) noexcept {
  auto* const masses = reinterpret_cast<std::int32_t*>(run.masses);
  float const* const rows = run.logits + first * run.stride;
  for (int i = 0; i < run.rows; i += 16) {
    int const n = std::min(16, run.rows - i);
    F32x16 m = splat(0.0F);
    for (int h = 0; h < heads; ++h) {
      float const* const row = rows + h * run.stride + i;
      m = fma(n == 16 ? load(row) : load_first(row, n, 0.0F), splat(scale[h]), m);
    }
    I32x16 mass = rounded(m);
    if constexpr (Add) {
      mass = add(mass, n == 16 ? load(masses + i) : load_first(masses + i, n, 0));
    }
    if (n == 16) {
      store(masses + i, mass);
    } else {
      store_first(masses + i, mass, n);
    }
  }
}

}  // namespace kernels

/// @brief Masses of rows that share one softmax but lie in several runs: the mean over heads of a
/// row's softmax weight among the rows of all runs; 0 for rows that do not take part.
///
/// Independent of the order of rows and of their division into runs: weights become multiples of
/// 2^-24 of the largest (relative error before that below 2^-18) and are summed as integers; a
/// row's mass is a chain of fused multiply-adds over ascending heads, rounded after every eighth.
/// @param runs their logits are overwritten, by the weights in units of 2^-24 of the head's
///   largest; -infinity counts as a row that does not take part
/// @param lse [heads] or null: log-sum-exp in octaves, -infinity if no row takes part
/// @param highest [heads] or null: the largest logit among the rows that take part, where the
///   caller knows it already; saves reading all logits once
/// @complexity O(heads * rows)
inline void softmax_masses(std::span<LogitRun const> runs, int heads, float* lse,
                           float const* highest = nullptr) noexcept {
  constexpr int heads_at_once = 8;
  float const share = 0x1p30F / static_cast<float>(heads);
  for (int first = 0; first < heads; first += heads_at_once) {
    int const count = std::min(heads_at_once, heads - first);
    float scale[heads_at_once];
    for (int h = first; h < first + count; ++h) {
      float const top = highest != nullptr ? highest[h] : kernels::largest_logit(runs, h);
      float const origin = top > kernels::minus_infinity ? top : 0.0F;
      std::uint64_t total = 0;
      for (LogitRun const& run : runs) {
        total += kernels::weigh_logits(run, h, origin);
      }
      auto const weight = static_cast<float>(total);
      scale[h - first] = total != 0 ? share / weight : 0.0F;
      if (lse != nullptr) {
        lse[h] = total != 0 ? top + (log2(weight) - static_cast<float>(kernels::weight_bits))
                            : kernels::minus_infinity;
      }
    }
    for (LogitRun const& run : runs) {
      if (first == 0) {
        kernels::combine_heads<false>(run, first, count, scale);
      } else {
        kernels::combine_heads<true>(run, first, count, scale);
      }
    }
  }
}

/// @brief The same for rows that lie in one run and all take part.
/// @param logits `logits[h * stride + i]` in octaves, -infinity for rows that are left out;
///   overwritten
/// @param mass [n]
inline void softmax_masses(float* logits, std::ptrdiff_t stride, int heads, int n, Mass* mass,
                           float* lse) noexcept {
  LogitRun const run{logits, stride, n, nullptr, mass};
  softmax_masses(std::span<LogitRun const>(&run, 1), heads, lse);
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
