#pragma once

/// @file
/// @brief The lower bits of nested key codes, row by row, and the logits they correct.

#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/key_codes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Bytes of the lower bits of one key.
///
/// Per 64 channels, 2 bits: 16 bytes, of which byte l holds channels l + 16 v in bits 2 v and up;
/// 4 bits: 32 bytes, of which byte l holds channel l and above it channel l + 32.
template <int Residual>
constexpr std::size_t residual_bytes(int dim) noexcept {
  static_assert(Residual == 2 || Residual == 4, "kvfreeze: residuals have 2 or 4 bits");
  return static_cast<std::size_t>(FoldedQueries::padded(dim)) * Residual / 8U;
}

namespace kernels {

/// Sixteen floats of p[0..n), zeros from n on; n is a multiple of 8 and may be negative.
inline F32x16 load_part(float const* p, int n) noexcept {
  return n >= 16 ? load(p) : n > 0 ? load8(p) : splat(0.0F);
}

inline F32x16 load_part(Half const* p, int n) noexcept {
  return n >= 16 ? load(p) : n > 0 ? load8(p) : splat(0.0F);
}

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

/// Up to 16 rows under up to four heads.
template <int Residual, int Heads, int Dim>
void add_residuals_16(CodeRows const& rows, int first, int n, std::uint32_t const* groups,
                      FoldedQueries const& folded, int first_head, float* logits,
                      std::ptrdiff_t stride) noexcept {
  int const dim = Dim != 0 ? Dim : folded.dim;
  int const padded = FoldedQueries::padded(dim);
  std::byte const* codes[16];
  std::int8_t const* weights[16];
  FoldScale const* scales[16];
  std::byte const* const block = rows.row(first);
  auto const group_entries = static_cast<std::size_t>(folded.heads);
  KVFREEZE_UNROLL
  for (int i = 0; i < 16; ++i) {
    int const row = std::min(i, n - 1);
    codes[i] = block + static_cast<std::size_t>(row) * rows.row_bytes;
    std::size_t const entry =
        groups[first + row] * group_entries + static_cast<std::size_t>(first_head);
    weights[i] = folded.weights + entry * static_cast<std::size_t>(padded);
    scales[i] = folded.scales + entry;
  }
  I32x16 quads[4][Heads];
  KVFREEZE_UNROLL
  for (int t = 0; t < 4; ++t) {
    I32x16 total[4][Heads];
    KVFREEZE_UNROLL
    for (int i = 0; i < 4; ++i) {
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        total[i][h] = splat(0);
      }
    }
    for (int c = 0; c < padded; c += 64) {
      KVFREEZE_UNROLL
      for (int i = 0; i < 4; ++i) {
        I32x16 const code = residual_codes<Residual>(codes[t + 4 * i] + c * Residual / 8);
        KVFREEZE_UNROLL
        for (int h = 0; h < Heads; ++h) {
          total[i][h] = dot_bytes<(1 << Residual) - 1>(
              total[i][h], code, load_line(weights[t + 4 * i] + h * padded + c));
        }
      }
    }
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      quads[t][h] = reduce_to_quads(total[0][h], total[1][h], total[2][h], total[3][h]);
    }
  }
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    I32x16 const dot = reduce_quads(quads[0][h], quads[1][h], quads[2][h], quads[3][h]);
    I32x16 fields[4];  // the scales of rows j, j + 4, j + 8, j + 12
    KVFREEZE_UNROLL
    for (int j = 0; j < 4; ++j) {
      fields[j] =
          load_quads(scales[j] + h, scales[j + 4] + h, scales[j + 8] + h, scales[j + 12] + h);
    }
    I32x16 const lower = evens(fields[0], fields[1]);
    I32x16 const upper = evens(fields[2], fields[3]);
    F32x16 const unit = as_floats(evens(lower, upper));
    I32x16 const sum = odds(lower, upper);
    // Twice the distance of the residual from its middle, which the screen stood for.
    I32x16 const twice = sub(shift_left<1>(dot), sub(shift_left<Residual>(sum), sum));
    F32x16 const part = mul(unit, splat(1.0F / static_cast<float>(2 << Residual)));
    float* const out = logits + (first_head + h) * stride + first;
    if (n == 16) {
      store(out, fma(to_floats(twice), part, load(out)));
    } else {
      store_first(out, fma(to_floats(twice), part, load_first(out, n, 0.0F)), n);
    }
  }
}

}  // namespace kernels

/// @brief The lower bits of one key's code under KeyCodes<Screen>.
///
/// The full code is floor((key - minimum) / (step / 2^Residual)), clamped to Screen + Residual
/// bits; KeyCodes<Screen> has its upper bits.
/// @param key [dim], dim a multiple of 8
/// @param minima, steps [dim] of the row's group, as KeyCodes<Screen> stored them
/// @param out residual_bytes<Residual>(dim) bytes
/// @complexity O(dim)
template <int Screen, int Residual>
void encode_key_residual(float const* key, int dim, Half const* minima, Half const* steps,
                         std::byte* out) noexcept {
  constexpr auto highest_code = static_cast<float>((1 << (Screen + Residual)) - 1);
  for (int c = 0; c < dim; c += 64) {
    I32x16 lower[4];
    KVFREEZE_UNROLL
    for (int v = 0; v < 4; ++v) {
      int const at = c + 16 * v;
      auto const get = [&](auto const* p) { return kernels::load_part(p + at, dim - at); };
      // Times a power of two: the screen's quotient to the bit, but for the binary point.
      F32x16 const inverse =
          mul(kernels::inverse_step(get(steps)), splat(static_cast<float>(1 << Residual)));
      F32x16 const exact = mul(sub(get(key), get(minima)), inverse);
      F32x16 const code = min(max(exact, splat(0.0F)), splat(highest_code));
      lower[v] = both(truncated(code), splat((1 << Residual) - 1));
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
          for (int first = 0; first < count; first += 16) {
            kernels::add_residuals_16<Residual, heads_c(), dim_c()>(
                rows, first, std::min(16, count - first), groups, folded, head, logits, stride);
          }
        });
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
