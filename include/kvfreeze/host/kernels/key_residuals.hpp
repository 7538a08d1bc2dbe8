#pragma once

/// @file
/// @brief The lower bits of nested key codes, row by row, and the logits they correct.

#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/nested_codes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Bytes of the lower bits of one key.
///
/// Per 64 channels, 2 bits: 16 bytes, of which byte l holds channels l + 16 v in bits 2 v and up;
/// 4 bits: 32 bytes, of which byte l holds channel l and above it channel l + 32.
template <int Residual>
KVFREEZE_HD constexpr std::size_t residual_bytes(int dim) noexcept {
  static_assert(Residual == 2 || Residual == 4, "kvfreeze: residuals have 2 or 4 bits");
  return static_cast<std::size_t>(FoldedQueries::padded(dim)) * Residual / 8U;
}

/// @brief Where the residuals of a channel quad lie in a row: shifted, the dword at `byte` has one
/// channel's in the lowest bits of each byte.
template <int Residual>
struct ResidualPlace {
  int byte;
  int shift;

  KVFREEZE_HD constexpr explicit ResidualPlace(int quad) noexcept {
    constexpr int dwords = 2 * Residual;  // of 64 channels
    byte = quad / 16 * 4 * dwords + quad % 16 % dwords * 4;
    shift = quad % 16 / dwords * Residual;
  }
};

namespace kernels {

/// A byte each for 64 channels, in order.
template <int Residual>
I32x16 residual_codes(std::byte const* p) noexcept {
  if constexpr (Residual == 2) {
    static constexpr std::int32_t shifts[16] = {0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6};
    return both(shift_right(load_repeated_quad(p), load(shifts)), splat(four_bytes(3)));
  } else {
    static constexpr std::int32_t shifts[16] = {0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4};
    return both(shift_right(load_repeated_half(p), load(shifts)), splat(four_bytes(15)));
  }
}

/// 16 rows, or fewer, under up to four heads.
template <int Residual, int Heads, int Dim, bool Whole>
void add_residuals_16(CodeRows const& rows, int first, int rest, std::uint32_t const* groups,
                      FoldedQueries const& folded, int first_head, float* logits,
                      std::ptrdiff_t stride) noexcept {
  constexpr int largest = 4 * 127 * ((1 << Residual) - 1) * (Dim / 64);  // of a lane of a product
  constexpr bool small = Dim != 0 && 2 * largest < 0x8000;
  int const dim = Dim != 0 ? Dim : folded.dim;
  int const padded = FoldedQueries::padded(dim);
  int const line = folded.line_bytes();
  int const n = Whole ? 16 : rest;
  // A group's scales and weights are equally far from the first's but for a factor.
  std::size_t const group_bytes = static_cast<std::size_t>(folded.heads) * sizeof(FoldScale);
  std::size_t const factor = static_cast<std::size_t>(line) / sizeof(FoldScale);
  std::int8_t const* const weights = folded.weights_of(0, first_head);
  auto const* const scales = reinterpret_cast<std::byte const*>(&folded.scale_of(0, first_head));
  std::byte const* const codes = rows.row(first);
  std::size_t const row_bytes = rows.row_bytes;
  I32x16 dots[Heads][4];    // lane 4 q + j: quad q of the product with row t + 4 j, added up
  I32x16 fields[Heads][4];  // quad j: the scale of row t + 4 j
  KVFREEZE_UNROLL
  for (int t = 0; t < 4; ++t) {
    I32x16 total[Heads][4];
    std::byte const* scale[4];
    KVFREEZE_UNROLL
    for (int j = 0; j < 4; ++j) {
      int const row = Whole ? t + 4 * j : std::min(t + 4 * j, n - 1);
      std::size_t const at = groups[first + row] * group_bytes;
      std::byte const* const code = codes + static_cast<std::size_t>(row) * row_bytes;
      std::int8_t const* const weight = weights + at * factor;
      scale[j] = scales + at;
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        total[h][j] = splat(0);
      }
      for (int c = 0; c < padded; c += 64) {
        I32x16 const lower = residual_codes<Residual>(code + c * Residual / 8);
        KVFREEZE_UNROLL
        for (int h = 0; h < Heads; ++h) {
          total[h][j] =
              dot_bytes<(1 << Residual) - 1>(total[h][j], lower, load_line(weight + h * line + c));
        }
      }
    }
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      dots[h][t] = add_pairs<small>(add_pairs<small>(total[h][0], total[h][1]),
                                    add_pairs<small>(total[h][2], total[h][3]));
      std::size_t const head = static_cast<std::size_t>(h) * sizeof(FoldScale);
      fields[h][t] = load_quads(scale[0] + head, scale[1] + head, scale[2] + head, scale[3] + head);
    }
  }
  static constexpr std::int32_t transposed[16] = {0, 4, 8,  12, 1, 5, 9,  13,
                                                  2, 6, 10, 14, 3, 7, 11, 15};
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    I32x16 const sums = reduce_to_quads(dots[h][0], dots[h][1], dots[h][2], dots[h][3]);
    I32x16 const dot = as_ints(lookup(as_floats(sums), load(transposed)));
    I32x16 const lower = evens(fields[h][0], fields[h][1]);
    I32x16 const upper = evens(fields[h][2], fields[h][3]);
    F32x16 const unit = as_floats(evens(lower, upper));
    I32x16 const sum = odds(lower, upper);
    // Twice the distance of the residual from its middle, which the screen stood for.
    I32x16 const twice = sub(shift_left<1>(dot), sub(shift_left<Residual>(sum), sum));
    F32x16 const part = mul(unit, splat(1.0F / static_cast<float>(2 << Residual)));
    float* const out = logits + (first_head + h) * stride + first;
    if constexpr (Whole) {
      store(out, fma(to_floats(twice), part, load(out)));
    } else {
      store_first(out, fma(to_floats(twice), part, load_first(out, n, 0.0F)), n);
    }
  }
}

/// Residuals of channels [c, c + 16) of a key; 0 from dim on.
template <int Residual>
I32x16 key_residuals_16(float const* key, NestedCodes const& codes, int c) noexcept {
  auto const get = [&](auto const* p) { return load_part(p + c, codes.dim - c); };
  I32x16 const shift = twice_planes(quarter_bits(codes.quarters, c, codes.dim));
  // Times a power of two: the screen's quotient to the bit, but for the binary point.
  F32x16 const inverse =
      mul(inverse_step(get(codes.quarters)), power_of_two(add(shift, splat(Residual - 2))));
  F32x16 const exact = mul(sub(get(key), get(codes.origins)), inverse);
  F32x16 const cells = power_of_two(add(shift, splat(Residual)));
  F32x16 const code = min(max(exact, splat(0.0F)), sub(cells, splat(1.0F)));
  return both(truncated(code), splat((1 << Residual) - 1));
}

}  // namespace kernels

/// @brief The bits of one key that follow the screen's: which part of its cell it lies in.
/// @param key [dim], dim a multiple of 8
/// @param codes the row's group
/// @param out residual_bytes<Residual>(dim) bytes
/// @complexity O(dim)
template <int Residual>
void encode_key_residual(float const* key, NestedCodes const& codes, std::byte* out) noexcept {
  for (int c = 0; c < codes.dim; c += 64) {
    I32x16 lower[4];
    KVFREEZE_UNROLL
    for (int v = 0; v < 4; ++v) {
      lower[v] = kernels::key_residuals_16<Residual>(key, codes, c + 16 * v);
    }
    if constexpr (Residual == 2) {
      store_bytes(out, either(either(lower[0], shift_left<2>(lower[1])),
                              either(shift_left<4>(lower[2]), shift_left<6>(lower[3]))));
    } else {
      store_bytes(out, either(lower[0], shift_left<4>(lower[2])));
      store_bytes(out + 16, either(lower[1], shift_left<4>(lower[3])));
    }
    out += residual_bytes<Residual>(64);
  }
}

/// @brief Turns logits of screen codes into those of full codes, for the rows of a pool.
///
/// logits[h * stride + i] += unit / 2^(Residual + 1) * sum_c weight_c (2 r_c - (2^Residual - 1)):
/// the sum is exact int32, then one multiply-add.
/// @param rows residuals, residual_bytes<Residual>(dim) each
/// @param groups [count] entry of `folded` for each row
/// @complexity O(count * heads * dim)
template <int Residual>
void add_residuals(CodeRows const& rows, int count, std::uint32_t const* groups,
                   FoldedQueries const& folded, float* logits, std::ptrdiff_t stride) noexcept {
  for (int head = 0; head < folded.heads; head += head_group) {
    kernels::with_constants(
        std::min(head_group, folded.heads - head), folded.dim, [&](auto heads_c, auto dim_c) {
          int first = 0;
          for (; first + 16 <= count; first += 16) {
            kernels::add_residuals_16<Residual, heads_c(), dim_c(), true>(
                rows, first, 16, groups, folded, head, logits, stride);
          }
          if (first < count) {
            kernels::add_residuals_16<Residual, heads_c(), dim_c(), false>(
                rows, first, count - first, groups, folded, head, logits, stride);
          }
        });
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
