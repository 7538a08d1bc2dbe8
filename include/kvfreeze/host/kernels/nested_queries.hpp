#pragma once

/// @file
/// @brief Queries with the cells of nested key codes folded in.

#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/nested_codes.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

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

/// Weights of channels [c, c + 16) times `factor`; 0 from dim on.
inline F32x16 cell_weights(float const* weights, int c, int dim, F32x16 factor) noexcept {
  return mul(load_part(weights + c, dim - c), factor);
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

/// Weights of four units times `factor` and `inverse`, as integers.
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
  FoldSums channels;
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
      channels.add(h, mul(query, widest), query, center);
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
  FoldUnits const fold(channels);
  I32x16 count[4] = {splat(0), splat(0), splat(0), splat(0)};
  if constexpr (in_registers) {
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      count[h] = store_weights(folded[h], fold.inverse(h), cells + h * line, count[h]);
    }
  } else {
    for (int c = 0; c < FoldedQueries::padded(dim); c += 64) {
      F32x16 const factors[4] = {
          cell_factors(codes.quarters, c, dim), cell_factors(codes.quarters, c + 16, dim),
          cell_factors(codes.quarters, c + 32, dim), cell_factors(codes.quarters, c + 48, dim)};
      for (int h = 0; h < Heads; ++h) {
        float const* const w = weights + h * dim;
        F32x16 const four[4] = {
            cell_weights(w, c, dim, factors[0]), cell_weights(w, c + 16, dim, factors[1]),
            cell_weights(w, c + 32, dim, factors[2]), cell_weights(w, c + 48, dim, factors[3])};
        count[h] = store_weights(four, fold.inverse(h), cells + h * line + c, count[h]);
      }
    }
  }
  UnitList const list(codes.quarters, dim, codes.units);
  for (int first = 0; first < codes.units; first += 16) {
    bool const more = first + 8 < codes.units;  // one bit a channel at dim 64 makes eight units
    F32x16 const a = unit_factors(list, first);
    F32x16 const b = unit_factors(list, first + 4);
    F32x16 const c = unit_factors(list, first + 8);
    F32x16 const d = unit_factors(list, first + 12);
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      float const* const w = weights + h * dim;
      F32x16 const x = fold.inverse(h);
      I32x16 const none = splat(0);
      store_line(
          units + h * line + std::ptrdiff_t{4} * first,
          pack_bytes(unit_weights(w, list, first, a, x), unit_weights(w, list, first + 4, b, x),
                     more ? unit_weights(w, list, first + 8, c, x) : none,
                     more ? unit_weights(w, list, first + 12, d, x) : none));
    }
  }
  fold.store_scales<Heads>(count, scales);
}

}  // namespace kernels

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
