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

/// The integer nearest 2^(24 + logit - highest), logit <= highest, in the lanes of `in` (in all if
/// not Some), else 0 whatever the logit; relative error below 2^-18.4 before rounding.
template <bool Some>
[[gnu::always_inline]] inline I32x16 integer_weights(F32x16 logits, F32x16 minus_highest,
                                                     [[maybe_unused]] Mask16 in) noexcept {
  constexpr auto unit = static_cast<float>(1 << weight_bits);
  auto const& c = coarse_exp2_coefficients;
  auto const polynomial = [&](F32x16 f) {
    F32x16 y = fma(splat(c[3] * unit), f, splat(c[2] * unit));
    y = fma(y, f, splat(c[1] * unit));
    y = fma(y, f, splat(c[0] * unit));
    return fma(y, f, splat(unit));
  };
  // A multiply-add by 1 gives the bits of an addition, but leaves the adders to the conversions.
  F32x16 const x = fma(logits, splat(1.0F), minus_highest);
#if defined(KVFREEZE_ISA_AVX512)
  // The hardware's scaling gives 0 far below and for minus infinity, whatever the polynomial.
  F32x16 const n{_mm512_maskz_roundscale_ps(0xFFFF, x.v, 0x08)};
  F32x16 const scaled{_mm512_maskz_scalef_ps(0xFFFF, polynomial(sub(x, n)).v, n.v)};
#else
  F32x16 const shift = splat(round_shift);
  F32x16 bounded = max(x, splat(-32.0F));  // weighs 0 all the same
  if constexpr (Some) {
    bounded = min(bounded, splat(0.0F));  // lanes that do not count
  }
  F32x16 const n = add(bounded, shift);
  F32x16 const y = polynomial(sub(bounded, sub(n, shift)));
  F32x16 const scaled = as_floats(add(as_ints(y), shift_left<23>(as_ints(n))));
#endif
  if constexpr (Some) {
    return rounded_where(in, scaled);
  } else {
    return rounded(scaled);
  }
}

/// Largest of n numbers, -infinity if n is 0.
inline float largest_of(float const* x, int n) noexcept {
  F32x16 highest[4];  // four at a time: a maximum waits for the one before
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
  for (; i + 16 <= n; i += 16) {
    highest[0] = max(load(x + i), highest[0]);
  }
  if (i < n) {
    highest[0] = max(load_first(x + i, n - i, minus_infinity), highest[0]);
  }
  return largest(max(max(highest[0], highest[1]), max(highest[2], highest[3])));
}

/// Calls f(i, n, x, in) for rows i, ..., i + 15, x[h] those of each of `Heads` heads from `logits`
/// on and `in` where they take part, if not all do; the last n < 16 of the range filled up with
/// minus infinity, which does not.
template <int Heads, bool Some, class F>
[[gnu::always_inline]] inline void for_each_16(LogitRun const& run, float const* logits, int begin,
                                               int end, F const& f) noexcept {
  constexpr std::uint8_t bits = LogitRun::state_bits;
  constexpr std::uint8_t value = LogitRun::taking_part;
  F32x16 x[Heads];
  Mask16 in{};
  int i = begin;
  for (; i + 16 <= end; i += 16) {
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      x[h] = load(logits + h * run.stride + i);
    }
    if constexpr (Some) {
      in = equal_bits(run.states + i, bits, value);
    }
    f(i, 16, x, in);
  }
  if (int const n = end - i; n > 0) {
    for (int h = 0; h < Heads; ++h) {
      x[h] = load_first(logits + h * run.stride + i, n, minus_infinity);
    }
    if constexpr (Some) {
      in = equal_bits_first(run.states + i, n, bits, value);
    }
    f(i, n, x, in);
  }
}

/// highest[h] = largest logit of head first + h, minus infinity if no row takes part.
template <int Heads>
void largest_logits(std::span<LogitRun const> runs, int first, float* highest) noexcept {
  F32x16 found[Heads];
  KVFREEZE_UNROLL
  for (auto& x : found) {
    x = splat(minus_infinity);
  }
  F32x16 const out = splat(minus_infinity);
  for (LogitRun const& run : runs) {
    float const* const logits = run.logits + first * run.stride;
    if (run.states != nullptr) {
      for_each_16<Heads, true>(run, logits, 0, run.rows,
                               [&](int, int, F32x16 const(&x)[Heads], Mask16 const& in) {
                                 KVFREEZE_UNROLL
                                 for (int h = 0; h < Heads; ++h) {
                                   found[h] = max(select(in, x[h], out), found[h]);
                                 }
                               });
    } else {
      for_each_16<Heads, false>(run, logits, 0, run.rows,
                                [&](int, int, F32x16 const(&x)[Heads], Mask16 const&) {
                                  KVFREEZE_UNROLL
                                  for (int h = 0; h < Heads; ++h) {
                                    found[h] = max(x[h], found[h]);
                                  }
                                });
    }
  }
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    highest[h] = largest(found[h]);
  }
}

/// Replaces the logits of `Heads` heads from `first` on by integer weights, whose sums are added to
/// totals[h].
template <int Heads, bool Some>
void weigh_logits(LogitRun const& run, int first, float const* highest, WideSum* totals) noexcept {
  constexpr int step = 16 * 128;  // lanes stay below 2^32
  F32x16 minus_highest[Heads];
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    minus_highest[h] = splat(-highest[h]);
  }
  float* const logits = run.logits + first * run.stride;
  auto* const weights = reinterpret_cast<std::int32_t*>(logits);
  for (int begin = 0; begin < run.rows; begin += step) {
    I32x16 part[Heads];
    KVFREEZE_UNROLL
    for (auto& x : part) {
      x = splat(0);
    }
    for_each_16<Heads, Some>(run, logits, begin, std::min(run.rows, begin + step),
                             [&](int i, int n, F32x16 const(&x)[Heads], Mask16 const& in) {
                               KVFREEZE_UNROLL
                               for (int h = 0; h < Heads; ++h) {
                                 I32x16 const weight =
                                     integer_weights<Some>(x[h], minus_highest[h], in);
                                 part[h] = add(part[h], weight);
                                 auto* const out = weights + h * run.stride + i;
                                 if (n == 16) {
                                   store(out, weight);
                                 } else {
                                   store_first(out, weight, n);
                                 }
                               }
                             });
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      totals[h].add(part[h]);
    }
  }
}

/// masses = sum over `Heads` heads from `first` on of weight * scale[h], rounded; added to what is
/// there already if `first` is not 0.
template <int Heads>
void combine_heads(LogitRun const& run, int first, float const* scale) noexcept {
  auto* const masses = reinterpret_cast<std::int32_t*>(run.masses);
  auto const* const rows = reinterpret_cast<std::int32_t const*>(run.logits + first * run.stride);
  F32x16 factor[Heads];
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    factor[h] = splat(scale[h]);
  }
  auto const combined = [&](auto const& get, int i) {
    F32x16 m = splat(0.0F);
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      m = fma(to_floats(get(rows + h * run.stride + i)), factor[h], m);
    }
    I32x16 const mass = rounded(m);
    return first != 0 ? add(mass, get(masses + i)) : mass;
  };
  // Downwards: of the weights, which were written upwards, the last are in the nearest cache.
  int i = run.rows / 16 * 16;
  if (int const n = run.rows - i; n > 0) {
    auto const get = [=](std::int32_t const* p) { return load_first(p, n, 0); };
    store_first(masses + i, combined(get, i), n);
  }
  while (i > 0) {
    i -= 16;
    store(masses + i, combined([](std::int32_t const* p) { return load(p); }, i));
  }
}

/// `softmax_masses` of `Heads` heads from `first` on, each of which counts `share` units of mass.
template <int Heads>
void softmax_some_heads(std::span<LogitRun const> runs, int first, float share, float* lse,
                        float const* known) noexcept {
  float highest[Heads];
  if (known != nullptr) {
    std::copy_n(known + first, Heads, highest);
  } else {
    largest_logits<Heads>(runs, first, highest);
  }
  for (float& x : highest) {
    x = x > minus_infinity ? x : 0.0F;  // no row takes part
  }
  WideSum totals[Heads];
  for (LogitRun const& run : runs) {
    if (run.states != nullptr) {
      weigh_logits<Heads, true>(run, first, highest, totals);
    } else {
      weigh_logits<Heads, false>(run, first, highest, totals);
    }
  }
  float scale[Heads];
  for (int h = 0; h < Heads; ++h) {
    auto const total = static_cast<float>(totals[h].total());
    scale[h] = total > 0.0F ? share / total : 0.0F;
    if (lse != nullptr) {
      lse[first + h] = total > 0.0F ? highest[h] + (log2(total) - static_cast<float>(weight_bits))
                                    : minus_infinity;
    }
  }
  for (std::size_t i = runs.size(); i > 0; --i) {
    combine_heads<Heads>(runs[i - 1], first, scale);
  }
}

}  // namespace kernels

/// @brief Masses of rows that share one softmax but lie in several runs: the mean over heads of a
/// row's softmax weight among the rows of all runs; 0 for rows that do not take part.
///
/// Independent of the order of rows and of their division into runs: weights become multiples of
/// 2^-24 of the largest (relative error before that below 2^-18) and are summed as integers; a
/// row's mass is a chain of fused multiply-adds over ascending heads, rounded after every fourth.
/// @param runs their logits are overwritten, by weights: int32, in units of 2^-24 of the
///   head's largest; -infinity counts as a row that does not take part
/// @param lse [heads] or null: log-sum-exp in octaves, -infinity if no row takes part
/// @param highest [heads] or null: the largest logit among the rows that take part, where the
///   caller knows it already; saves reading all logits once
/// @complexity O(heads * rows)
inline void softmax_masses(std::span<LogitRun const> runs, int heads, float* lse,
                           float const* highest = nullptr) noexcept {
  float const share = 0x1p30F / static_cast<float>(heads);
  for (int first = 0; first < heads; first += 4) {
    switch (heads - first) {
      case 1:
        kernels::softmax_some_heads<1>(runs, first, share, lse, highest);
        break;
      case 2:
        kernels::softmax_some_heads<2>(runs, first, share, lse, highest);
        break;
      case 3:
        kernels::softmax_some_heads<3>(runs, first, share, lse, highest);
        break;
      default:
        kernels::softmax_some_heads<4>(runs, first, share, lse, highest);
        break;
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
