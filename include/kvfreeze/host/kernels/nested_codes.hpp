#pragma once

/// @file
/// @brief Encoding of nested key codes, and queries with their cells folded in. The format is that
/// of `digest/nested_key_codes.hpp`.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/key_codes.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// One group of nested key codes: its planes, 64 bytes for each unit and 64 rows, and its scales.
template <class Byte, class Scale>
struct NestedGroup {
  Byte* planes = nullptr;
  Scale* origins = nullptr;   ///< [dim]
  Scale* quarters = nullptr;  ///< [dim], the width of the first plane's digit
  int dim = 0;
  int units = 0;  ///< planes of channel quads
};

using NestedCodes = NestedGroup<std::byte const, Half const>;
using MutableNestedCodes = NestedGroup<std::byte, Half>;

inline constexpr int most_planes = 3;  ///< of a channel quad: its number has two bits

/// Planes of a channel quad, which its first channel's quarter holds in its lowest bits.
inline int planes_of(Half const* quarters, int quad) noexcept {
  return quarters[4 * quad].bits & 3;
}

namespace kernels {

/// @brief Gives out planes one by one, each to the channel quad whose error it lowers most.
///
/// A plane of two bits divides a quad's squared error by 16. Reverse water-filling: the expected
/// squared error of a logit is the sum over channels of E[q²] times the squared width of a cell.
/// @param errors [quads] of no planes; overwritten by those of what was given
/// @param planes [quads], at most `most_planes` each
inline void give_planes(float* errors, int quads, int units, std::uint8_t* planes) noexcept {
  std::fill_n(planes, quads, std::uint8_t{0});
  for (int unit = 0; unit < units; ++unit) {
    int best = -1;
    for (int quad = 0; quad < quads; ++quad) {
      if (planes[quad] < most_planes && (best < 0 || errors[quad] > errors[best])) {
        best = quad;
      }
    }
    planes[best] = static_cast<std::uint8_t>(planes[best] + 1);
    errors[best] *= 1.0F / 16.0F;
  }
}

/// Least, largest and mean key of each channel of a group.
struct ChannelRanges {
  alignas(64) std::array<float, max_head_dim> low;
  alignas(64) std::array<float, max_head_dim> high;
  alignas(64) std::array<float, max_head_dim> mean;

  ChannelRanges(float const* keys, int rows, int dim) noexcept {
    F32x16 const share = splat(1.0F / static_cast<float>(rows));
    F32x16 const limit = splat(60000.0F);  // Half holds it, and what is added to it
    F32x16 const negative = splat(-60000.0F);
    for (int c = 0; c < dim; c += 16) {
      auto const get = [&](int row) {
        float const* const p = keys + static_cast<std::ptrdiff_t>(row) * dim + c;
        return max(min(dim - c >= 16 ? load(p) : load8(p), limit), negative);
      };
      F32x16 least = get(0);
      F32x16 most = least;
      F32x16 total = splat(0.0F);
      for (int r = 0; r < rows; ++r) {
        F32x16 const k = get(r);
        least = min(k, least);
        most = max(k, most);
        total = fma(k, share, total);
      }
      store(low.data() + c, least);
      store(high.data() + c, most);
      store(mean.data() + c, max(min(total, most), least));
    }
  }
};

/// @brief Origin and quarter of a channel: what the codes' digits are counted from, and by.
///
/// Finest cells reach from the least to the largest key, half a cell beyond either. A channel
/// without planes stands for its mean, from which they reach equally far.
/// @param finest cells that the finest code tells apart
/// @param carries_planes the channel is the first of its quad
inline void choose_scale(float low, float high, float mean, float finest, int planes,
                         bool carries_planes, Half& origin, Half& quarter) noexcept {
  float const half = std::max(high - mean, mean - low);
  float const range = planes == 0 ? half + half : high - low;
  float const cell = kvfreeze::detail::quotient(range, finest - 1.0F);
  std::uint32_t bits = from_float<Half>(cell * (finest * 0.25F)).bits;
  if (carries_planes) {  // a little wider rather than narrower
    bits = ((std::min(bits, 0x7BF8U) + 3U) & ~3U) | static_cast<std::uint32_t>(planes);
  }
  quarter.bits = static_cast<std::uint16_t>(std::min(bits, 0x7BFFU));
  float const first = planes == 0 ? kvfreeze::detail::fused(to_float(quarter), -2.0F, mean)
                                  : kvfreeze::detail::fused(cell, -0.5F, low);
  origin = from_float<Half>(std::clamp(first, -65504.0F, 65504.0F));
}

/// Puts one digit of a channel quad's codes ([row][16] bytes) into a unit's 64 bytes.
inline void put_unit(std::uint8_t const* codes, int shift, std::byte* line) noexcept {
  constexpr std::uint32_t digit = 0x03030303U;
  for (int r = 0; r < 16; ++r) {
    std::uint32_t word = 0;
    for (int block = 0; block < 4; ++block) {
      std::uint32_t four = 0;
      std::memcpy(&four, codes + (block * 16 + r) * 16, sizeof four);
      word |= ((four >> shift) & digit) << (2 * block);
    }
    std::memcpy(line + 4 * r, &word, sizeof word);
  }
}

/// Sixteen floats of p[0..n), zeros from n on; n is a multiple of 8 and may be negative.
inline F32x16 load_part(float const* p, int n) noexcept {
  return n >= 16 ? load(p) : n > 0 ? load8(p) : splat(0.0F);
}

inline F32x16 load_part(Half const* p, int n) noexcept {
  return n >= 16 ? load(p) : n > 0 ? load8(p) : splat(0.0F);
}

/// Raw bits of the last eight quarters, and zeros.
[[gnu::noinline]] inline I32x16 last_quarter_bits(Half const* quarters) noexcept {
  alignas(32) std::array<Half, 16> padded{};
  std::memcpy(padded.data(), quarters, 8 * sizeof(Half));
  return load_words(padded.data());
}

/// Raw bits of 16 quarters from channel c on; zeros behind the last.
inline I32x16 quarter_bits(Half const* quarters, int c, int dim) noexcept {
  return c + 16 <= dim ? load_words(quarters + c)
         : c < dim     ? last_quarter_bits(quarters + c)
                       : splat(0);
}

/// 2 * planes in each lane of a quad.
inline I32x16 twice_planes(I32x16 quarter_bits) noexcept {
  I32x16 const firsts = evens(quarter_bits, quarter_bits);
  return shift_left<1>(both(evens(firsts, firsts), splat(3)));
}

/// 2^n for exponents of normal floats.
inline F32x16 power_of_two(I32x16 n) noexcept {
  return as_floats(shift_left<23>(add(n, splat(127))));
}

/// The units of a group in order, by quad and plane, filled up with units that weigh nothing.
class UnitList {
 public:
  UnitList(Half const* quarters, int dim, int units) noexcept {
    // Three entries at once, of which the next quad overwrites those that there are not: no branch.
    std::uint64_t three = std::uint64_t{2} << 32 | std::uint64_t{1} << 16;
    std::uint16_t* next = entries_.data();
    for (int quad = 0; quad < dim / 4; ++quad) {
      std::memcpy(next, &three, sizeof three);
      next += planes_of(quarters, quad);
      three += 0x0010'0010'0010'0010U;
    }
    for (int unit = units; unit % 16 != 0; ++unit) {
      entries_[static_cast<std::size_t>(unit)] = no_plane;
    }
  }

  /// First channel of a unit's quad.
  [[nodiscard]] int channel(int unit) const noexcept {
    return entries_[static_cast<std::size_t>(unit)] / 16 * 4;
  }

  [[nodiscard]] int plane(int unit) const noexcept {
    return entries_[static_cast<std::size_t>(unit)] % 16;
  }

 private:
  static constexpr std::uint16_t no_plane = 4;

  std::array<std::uint16_t, 2 * max_head_dim / 4 + 16> entries_;  ///< quad * 16 + plane
};

/// Factors of a quad's weights by plane; the last for units that are not there.
inline constexpr std::array<float, 20> plane_factors = {
    1.0F,    1.0F,    1.0F,      1.0F,      0.25F,     0.25F,     0.25F, 0.25F, 0.0625F, 0.0625F,
    0.0625F, 0.0625F, 0.015625F, 0.015625F, 0.015625F, 0.015625F, 0.0F,  0.0F,  0.0F,    0.0F};

// Bodies of unrolled loops are functions: g++ 12 reuses the stack of their temporaries too early
// where they are written out (portable vectors, -O1 and -O2).

/// Weights of channels [c, c + 16) times `factor` and `inverse`, as integers; 0 from dim on.
inline I32x16 cell_weights(float const* weights, int c, int dim, F32x16 factor,
                           F32x16 inverse) noexcept {
  return rounded(mul(mul(load_part(weights + c, dim - c), factor), inverse));
}

/// Factors of the cells of channels [c, c + 16): 4^(1 - planes).
inline F32x16 cell_factors(Half const* quarters, int c, int dim) noexcept {
  return power_of_two(sub(splat(2), twice_planes(quarter_bits(quarters, c, dim))));
}

/// Factors of four units.
inline F32x16 unit_factors(UnitList const& list, int unit) noexcept {
  auto const row = [&](int i) { return plane_factors.data() + 4 * list.plane(unit + i); };
  return as_floats(load_quads(row(0), row(1), row(2), row(3)));
}

/// Weights of four units, alike.
inline I32x16 unit_weights(float const* weights, UnitList const& list, int unit, F32x16 factor,
                           F32x16 inverse) noexcept {
  auto const quad = [&](int i) { return weights + list.channel(unit + i); };
  F32x16 const four = as_floats(load_quads(quad(0), quad(1), quad(2), quad(3)));
  return rounded(mul(mul(four, factor), inverse));
}

/// @brief Up to four heads of one group: weights of its units, of its cells, and scales.
/// @param units weights of the units, `line` bytes from head to head; padded(4 * codes.units)
/// @param cells weights of the cells, alike; padded(dim)
template <int Heads, int Dim>
void fold_nested_heads(float const* q, NestedCodes const& codes, std::int8_t* units,
                       std::int8_t* cells, int line, FoldScale* scales) noexcept {
  int const dim = Dim != 0 ? Dim : codes.dim;
  constexpr bool in_registers = Dim == 64;  // otherwise the cells are made a second time
  alignas(64) float weights[Heads * (Dim != 0 ? Dim : max_head_dim)];
  F32x16 folded[Heads][4];
  F32x16 total[4];
  F32x16 highest[4];
  KVFREEZE_UNROLL
  for (int h = 0; h < 4; ++h) {
    total[h] = splat(0.0F);
    highest[h] = splat(0.0F);
  }
  for_channels(dim, [&](auto const get, int c) {
    F32x16 const width = get(codes.quarters + c);
    F32x16 const factor = cell_factors(codes.quarters, c, dim);
    F32x16 const cell = mul(width, factor);
    F32x16 const widest = max(width, cell);
    F32x16 const center = fma(cell, splat(0.5F), get(codes.origins + c));
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      F32x16 const query = get(q + h * dim + c);
      F32x16 const weight = mul(query, width);
      highest[h] = max(abs(mul(query, widest)), highest[h]);
      total[h] = fma(query, center, total[h]);
      if (c + 16 <= dim) {
        store(weights + h * dim + c, weight);
      } else {
        store8(weights + h * dim + c, weight);
      }
      if constexpr (in_registers) {
        folded[h][c / 16] = mul(weight, factor);
      }
    }
  });
  FoldUnits const fold(highest, total);
  F32x16 inverse[Heads];
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    inverse[h] = fold.inverse(h);
  }
  I32x16 count[4] = {splat(0), splat(0), splat(0), splat(0)};
  if constexpr (in_registers) {
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      I32x16 const bytes = pack_bytes(
          rounded(mul(folded[h][0], inverse[h])), rounded(mul(folded[h][1], inverse[h])),
          rounded(mul(folded[h][2], inverse[h])), rounded(mul(folded[h][3], inverse[h])));
      store_line(cells + h * line, bytes);
      count[h] = dot_bytes<1>(count[h], splat(four_bytes(1)), bytes);
    }
  } else {
    int const padded = FoldedQueries::padded(dim);
    for (int c = 0; c < padded; c += 64) {
      F32x16 const a = cell_factors(codes.quarters, c, dim);
      F32x16 const b = cell_factors(codes.quarters, c + 16, dim);
      F32x16 const d = cell_factors(codes.quarters, c + 32, dim);
      F32x16 const e = cell_factors(codes.quarters, c + 48, dim);
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        float const* const w = weights + h * dim;
        I32x16 const bytes = pack_bytes(cell_weights(w, c, dim, a, inverse[h]),
                                        cell_weights(w, c + 16, dim, b, inverse[h]),
                                        cell_weights(w, c + 32, dim, d, inverse[h]),
                                        cell_weights(w, c + 48, dim, e, inverse[h]));
        store_line(cells + h * line + c, bytes);
        count[h] = dot_bytes<1>(count[h], splat(four_bytes(1)), bytes);
      }
    }
  }
  UnitList const list(codes.quarters, dim, codes.units);
  for (int first = 0; first < codes.units; first += 16) {
    bool const second = first + 8 < codes.units;  // units are an even number: most often eight
    F32x16 const a = unit_factors(list, first);
    F32x16 const b = unit_factors(list, first + 4);
    F32x16 const c = unit_factors(list, first + 8);
    F32x16 const d = unit_factors(list, first + 12);
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      float const* const w = weights + h * dim;
      F32x16 const x = inverse[h];
      I32x16 const none = splat(0);
      store_line(
          units + h * line + std::ptrdiff_t{4} * first,
          pack_bytes(unit_weights(w, list, first, a, x), unit_weights(w, list, first + 4, b, x),
                     second ? unit_weights(w, list, first + 8, c, x) : none,
                     second ? unit_weights(w, list, first + 12, d, x) : none));
    }
  }
  fold.store_scales<Heads>(count, scales);
}

}  // namespace kernels

/// @brief Encodes keys [rows][dim] of one group; rows a multiple of 64.
/// @param importance [dim], the queries' summed squares by channel; null: all alike
/// @param residual bits of the longest residual
/// @complexity O(rows * dim + units * dim)
inline void encode_nested_codes(float const* keys, float const* importance, int rows,
                                MutableNestedCodes const& out, int residual) noexcept {
  int const dim = out.dim;
  kernels::ChannelRanges const ranges(keys, rows, dim);
  std::array<float, kernels::max_head_dim / 4> errors;
  std::array<std::uint8_t, kernels::max_head_dim / 4> planes;
  for (int quad = 0; quad < dim / 4; ++quad) {
    float error = 0.0F;
    for (int i = 0; i < 4; ++i) {
      int const channel = 4 * quad + i;
      auto const c = static_cast<std::size_t>(channel);
      float const range = ranges.high[c] - ranges.low[c];
      float const weight = importance == nullptr ? 1.0F : std::min(importance[c], 1e20F);
      error = kvfreeze::detail::fused(range * range, weight, error);
    }
    errors[static_cast<std::size_t>(quad)] = error;
  }
  kernels::give_planes(errors.data(), dim / 4, out.units, planes.data());
  for (int c = 0; c < dim; ++c) {
    auto const i = static_cast<std::size_t>(c);
    int const n = planes[i / 4];
    kernels::choose_scale(ranges.low[i], ranges.high[i], ranges.mean[i],
                          static_cast<float>(1 << (2 * n + residual)), n, c % 4 == 0,
                          out.origins[c], out.quarters[c]);
  }
  int unit = 0;
  for (int c = 0; c < dim; c += 16) {
    int const channels = std::min(16, dim - c);
    auto const get = [&](auto const* p) { return channels == 16 ? load(p) : load8(p); };
    F32x16 const origin = get(out.origins + c);
    // Sixteen finest cells to a quarter: three digits.
    F32x16 const inverse = mul(kernels::inverse_step(get(out.quarters + c)), splat(16.0F));
    int const before = unit;
    for (int begin = 0; begin < rows; begin += 64) {
      alignas(64) std::uint8_t codes[64 * 16];
      for (int r = 0; r < 64; ++r) {
        F32x16 const k = get(keys + static_cast<std::ptrdiff_t>(begin + r) * dim + c);
        F32x16 const exact = mul(sub(k, origin), inverse);
        store_bytes(codes + r * 16, truncated(min(max(exact, splat(0.0F)), splat(63.0F))));
      }
      std::byte* const lines = out.planes + static_cast<std::ptrdiff_t>(begin) * out.units;
      unit = before;
      for (int quad = 0; quad < channels / 4; ++quad) {
        int const at = c / 4 + quad;
        int const n = planes[static_cast<std::size_t>(at)];
        for (int plane = 0; plane < n; ++plane) {
          kernels::put_unit(codes + 4 * quad, 4 - 2 * plane,
                            lines + static_cast<std::ptrdiff_t>(64) * unit++);
        }
      }
    }
  }
}

/// @brief keys[rows][dim] as the screen has them.
inline void decode_nested_codes(NestedCodes const& codes, int rows, float* keys) noexcept {
  int unit = 0;
  for (int quad = 0; quad < codes.dim / 4; ++quad) {
    int const planes = planes_of(codes.quarters, quad);
    for (int row = 0; row < rows; ++row) {
      std::uint32_t code = 0;  // of four channels, a byte each
      for (int plane = 0; plane < planes; ++plane) {
        std::uint32_t word = 0;
        std::memcpy(&word,
                    codes.planes + static_cast<std::ptrdiff_t>(row / 64 * 64) * codes.units +
                        static_cast<std::ptrdiff_t>(64) * (unit + plane) + 4 * (row % 16),
                    sizeof word);
        code = code << 2 | ((word >> (2 * (row % 64 / 16))) & 0x03030303U);
      }
      for (int i = 0; i < 4; ++i) {
        int const c = 4 * quad + i;
        float const cell = to_float(codes.quarters[c]) * static_cast<float>(4) /
                           static_cast<float>(1 << 2 * planes);
        auto const digit = static_cast<float>((code >> (8 * i)) & 0xFFU);
        keys[static_cast<std::ptrdiff_t>(row) * codes.dim + c] =
            kvfreeze::detail::fused(digit + 0.5F, cell, to_float(codes.origins[c]));
      }
    }
    unit += planes;
  }
}

/// @brief Queries with the cells of groups of nested codes folded in: two lines of weights for each
/// group and head in memory of the caller's, of the screen's units and of the residuals' cells.
struct NestedQueries {
  std::int8_t* weights = nullptr;
  FoldScale* scales = nullptr;
  int heads = 0;
  int dim = 0;
  int units = 0;

  /// Bytes of one group and head.
  static constexpr int line(int dim, int units) noexcept {
    return FoldedQueries::padded(dim) + FoldedQueries::padded(4 * units);
  }

  /// What residuals are multiplied by.
  [[nodiscard]] FoldedQueries cells() const noexcept {
    return {weights, scales, heads, dim, line(dim, units)};
  }

  /// What the screen's digits are multiplied by, a channel for each.
  [[nodiscard]] FoldedQueries screen() const noexcept {
    return {weights + FoldedQueries::padded(dim), scales, heads, 4 * units, line(dim, units)};
  }
};

/// @brief Folds a group's cells into the queries: entry `group` of `out`.
///
/// Weights are q times the width of a digit or cell in the unit that makes the head's largest 127,
/// rounded to nearest even; `FoldScale::sum` is the cells'.
/// @param q [heads][dim], dim a multiple of 8
/// @complexity O(heads * dim)
inline void fold_nested(float const* q, NestedCodes const& codes, NestedQueries const& out,
                        int group) noexcept {
  auto const at = static_cast<std::size_t>(group);
  FoldedQueries const cells = out.cells();
  FoldedQueries const screen = out.screen();
  for (int first = 0; first < out.heads; first += head_group) {
    kernels::with_constants(std::min(head_group, out.heads - first), codes.dim,
                            [&](auto heads_c, auto dim_c) {
                              kernels::fold_nested_heads<heads_c(), dim_c()>(
                                  q + static_cast<std::ptrdiff_t>(first) * codes.dim, codes,
                                  screen.weights_of(at, first), cells.weights_of(at, first),
                                  cells.line_bytes(), &cells.scale_of(at, first));
                            });
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
