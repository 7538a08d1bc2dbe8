#pragma once

/// @file
/// @brief Values of one row and head in 2, 4 or 8 bits a channel, with one scale.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/simd.hpp>
#include <kvfreeze/host/kernels/tile.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief What codes stand for, in units of the scale: code c is level c, and is given to numbers
/// above threshold c - 1 and not above threshold c.
///
/// Two and four bits are in units of the row's largest magnitude, 8 bits are integers. Codes of 2
/// bits are the upper bits of those of 4. Levels have 11 bits, so that tensor cores multiply them
/// as they are.
template <int Bits>
struct ValueLevels;

/// Least squared error for the values of a language model, centred and rotated (`rotation.hpp`),
/// given the three thresholds of 2 bits.
template <>
struct ValueLevels<4> {
  static constexpr std::array<float, 15> thresholds = {
      -0.8437F, -0.6537F, -0.5059F, -0.3815F, -0.2787F, -0.1832F, -0.0912F, 0.0F,
      0.0912F,  0.1832F,  0.2787F,  0.3815F,  0.5059F,  0.6537F,  0.8437F};
  static constexpr std::array<float, 16> levels = {
      -0x1.E7Cp-1F, -0x1.784p-1F, -0x1.25p-1F, -0x1.C2p-2F, -0x1.4FCp-2F, -0x1.D68p-3F,
      -0x1.184p-3F, -0x1.74Cp-5F, 0x1.74Cp-5F, 0x1.184p-3F, 0x1.D68p-3F,  0x1.4FCp-2F,
      0x1.C2p-2F,   0x1.25p-1F,   0x1.784p-1F, 0x1.E7Cp-1F};
};

template <>
struct ValueLevels<2> {
  static constexpr std::array<float, 3> thresholds = {
      ValueLevels<4>::thresholds[3], ValueLevels<4>::thresholds[7], ValueLevels<4>::thresholds[11]};
  static constexpr std::array<float, 4> levels = {-0x1.2Ep-1F, -0x1.63p-3F, 0x1.63p-3F, 0x1.2Ep-1F};
};

/// @brief Bytes of the codes of one row and head.
///
/// Per 64 channels, 2 bits: 16 bytes, of which byte l holds channels l + 16 v in bits 2 v and up;
/// 4 bits: 16 words of 16 bits, channels l + 16 v in bits 4 v and up; 8 bits: 16 words of 32 bits,
/// channels l + 16 v in byte v, signed.
template <int Bits>
KVFREEZE_HD constexpr std::size_t value_code_bytes(int dim) noexcept {
  static_assert(Bits == 2 || Bits == 4 || Bits == 8, "kvfreeze: values have 2, 4 or 8 bits");
  return static_cast<std::size_t>((dim + 63) / 64 * 64) * Bits / 8U;
}

namespace kernels {

/// What every combination of four index bits stands for: of 2-bit codes, the lower or the upper.
template <int Bits>
constexpr std::array<float, 16> level_table(int code_in_index) noexcept {
  std::array<float, 16> out{};
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = ValueLevels<Bits>::levels[Bits == 4 ? i : (code_in_index == 0 ? i % 4 : i / 4)];
  }
  return out;
}

template <int Bits, int CodeInIndex>
inline constexpr std::array<float, 16> level_table_of = level_table<Bits>(CodeInIndex);

/// levels[v] of channels 16 v to 16 v + 15 of 64.
template <int Bits>
[[gnu::always_inline]] inline void decode_64(std::byte const* codes, F32x16 (&levels)[4]) noexcept {
  if constexpr (Bits == 2) {
    // A lookup takes four bits, two codes: one table for either, and one shift.
    F32x16 const lower = load(level_table_of<2, 0>.data());
    F32x16 const upper = load(level_table_of<2, 1>.data());
    I32x16 const x = load_bytes(codes);
    I32x16 const y = shift_right<4>(x);
    levels[0] = lookup(lower, x);
    levels[1] = lookup(upper, x);
    levels[2] = lookup(lower, y);
    levels[3] = lookup(upper, y);
  } else if constexpr (Bits == 4) {
    F32x16 const table = load(level_table_of<4, 0>.data());
    I32x16 const x = load_words(codes);
    levels[0] = lookup(table, x);
    levels[1] = lookup(table, shift_right<4>(x));
    levels[2] = lookup(table, shift_right<8>(x));
    levels[3] = lookup(table, shift_right<12>(x));
  } else {
    I32x16 const x = load_line(codes);
    levels[0] = to_floats(shift_right_signed<24>(shift_left<24>(x)));
    levels[1] = to_floats(shift_right_signed<24>(shift_left<16>(x)));
    levels[2] = to_floats(shift_right_signed<24>(shift_left<8>(x)));
    levels[3] = to_floats(shift_right_signed<24>(x));
  }
}

/// Threshold below each code, for lookups by four bits.
template <int Bits>
constexpr std::array<float, 16> threshold_table() noexcept {
  std::array<float, 16> out{};
  for (std::size_t i = 1; i < std::size_t{1} << Bits; ++i) {
    out[i] = ValueLevels<Bits>::thresholds[i - 1];
  }
  return out;
}

template <int Bits>
inline constexpr std::array<float, 16> thresholds_below = threshold_table<Bits>();

/// The codes of numbers in units of the scale.
template <int Bits>
I32x16 nearest_code(F32x16 x) noexcept {
  if constexpr (Bits == 8) {
    return rounded(max(min(x, splat(127.0F)), splat(-127.0F)));
  } else {
    // A search by halves: the threshold below code c decides whether the code is c or more.
    F32x16 const below = load(thresholds_below<Bits>.data());
    I32x16 code = splat(0);
    KVFREEZE_UNROLL
    for (int bit = (1 << Bits) / 2; bit > 0; bit /= 2) {
      I32x16 const higher = either(code, splat(bit));
      code = select(less(lookup(below, higher), x), higher, code);
    }
    return code;
  }
}

/// The scale of a row, before it is rounded.
template <int Bits>
float value_scale(float const* v, int dim) noexcept {
  F32x16 highest = splat(0.0F);
  for (int c = 0; c < dim; c += 16) {
    highest = max(abs(dim - c >= 16 ? load(v + c) : load8(v + c)), highest);
  }
  return Bits == 8 ? largest(highest) / 127.0F : largest(highest);
}

/// weights[h * stride + i] *= scale of row i, for rows [first, first + n).
inline void scale_weights(CodeRows const& scales, int first, int n, float* weights,
                          std::ptrdiff_t stride, int heads) noexcept {
  int i = first;
  for (; i + 16 <= first + n; i += 16) {
    F32x16 const scale = load(reinterpret_cast<BFloat16 const*>(scales.row(i)));
    for (int h = 0; h < heads; ++h) {
      float* const w = weights + h * stride + i;
      store(w, mul(load(w), scale));
    }
  }
  if (i < first + n) {
    int const rest = first + n - i;
    BFloat16 last[16] = {};
    std::memcpy(last, scales.row(i), static_cast<std::size_t>(rest) * sizeof(BFloat16));
    F32x16 const scale = load(last);
    for (int h = 0; h < heads; ++h) {
      float* const w = weights + h * stride + i;
      store_first(w, mul(load_first(w, rest, 0.0F), scale), rest);
    }
  }
}

/// out[h][c + i] += weights * levels for rows [first, first + n) and 64 channels from c on, of
/// which `channels` exist.
template <int Bits, int Heads, bool Whole>
void accumulate_64(CodeRows const& codes, int first, int n, float const* weights,
                   std::ptrdiff_t stride, int c, int channels, float* out, int dim) noexcept {
  F32x16 total[Heads][4];
  auto const lanes_of = [&](int v) { return std::clamp(channels - 16 * v, 0, 16); };
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    KVFREEZE_UNROLL
    for (int v = 0; v < 4; ++v) {
      float const* const p = out + static_cast<std::ptrdiff_t>(h) * dim + c + 16 * v;
      if constexpr (Whole) {
        total[h][v] = load(p);
      } else {
        int const lanes = lanes_of(v);
        total[h][v] = lanes > 0 ? load_first(p, lanes, 0.0F) : splat(0.0F);
      }
    }
  }
  for (int block = first; block < first + n; block += 16) {
    int const end = std::min(block + 16, first + n);
    std::byte const* code = codes.row(block) + value_code_bytes<Bits>(c);
    for (int i = block; i < end; ++i) {
      F32x16 level[4];
      decode_64<Bits>(code, level);
      code += codes.row_bytes;
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        F32x16 const w = splat(weights[h * stride + i]);
        KVFREEZE_UNROLL
        for (int v = 0; v < 4; ++v) {
          total[h][v] = fma(w, level[v], total[h][v]);
        }
      }
    }
  }
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    KVFREEZE_UNROLL
    for (int v = 0; v < 4; ++v) {
      float* const p = out + static_cast<std::ptrdiff_t>(h) * dim + c + 16 * v;
      if constexpr (Whole) {
        store(p, total[h][v]);
      } else if (int const lanes = lanes_of(v); lanes > 0) {
        store_first(p, total[h][v], lanes);
      }
    }
  }
}

/// Asks for the codes and scales of the blocks of rows [first, first + n).
inline void prefetch_codes(CodeRows const& codes, CodeRows const& scales, int first,
                           int n) noexcept {
  for (int block = first; block < first + n; block += 16) {
    std::byte const* const p = codes.row(block);
    for (std::size_t at = 0; at < 16 * codes.row_bytes; at += 64) {
      prefetch(p + at);
    }
    prefetch(scales.row(block));
  }
  end_prefetch();
}

}  // namespace kernels

/// @brief Codes a row.
///
/// The scale is the largest magnitude, for 8 bits over 127, rounded to
/// BFloat16 before the codes are made; 0 where all are 0.
/// @param v [dim], finite; dim a multiple of 8
/// @param codes value_code_bytes<Bits>(dim) bytes
/// @complexity O(dim)
template <int Bits>
BFloat16 encode_values(float const* v, int dim, std::byte* codes) noexcept {
  constexpr float largest_bfloat = 0x1.FEp127F;
  BFloat16 scale =
      from_float<BFloat16>(std::min(kernels::value_scale<Bits>(v, dim), largest_bfloat));
  if (to_float(scale) < 0x1p-126F) {  // its inverse could be infinite
    scale = {};
  }
  F32x16 const inverse = splat(scale == BFloat16{} ? 0.0F : 1.0F / to_float(scale));
  for (int c = 0; c < dim; c += 64) {
    I32x16 code[4];
    KVFREEZE_UNROLL
    for (int i = 0; i < 4; ++i) {
      int const at = c + 16 * i;
      F32x16 const x = dim - at >= 16 ? load(v + at) : dim - at >= 8 ? load8(v + at) : splat(0.0F);
      code[i] = kernels::nearest_code<Bits>(mul(x, inverse));
    }
    if constexpr (Bits == 2) {
      store_bytes(codes, either(either(code[0], shift_left<2>(code[1])),
                                either(shift_left<4>(code[2]), shift_left<6>(code[3]))));
    } else if constexpr (Bits == 4) {
      store_words(codes, either(either(code[0], shift_left<4>(code[1])),
                                either(shift_left<8>(code[2]), shift_left<12>(code[3]))));
    } else {
      I32x16 const byte = splat(0xFF);
      std::int32_t lanes[16];
      store(lanes, either(either(both(code[0], byte), shift_left<8>(both(code[1], byte))),
                          either(shift_left<16>(both(code[2], byte)), shift_left<24>(code[3]))));
      std::memcpy(codes, lanes, sizeof lanes);
    }
    codes += value_code_bytes<Bits>(64);
  }
  return scale;
}

/// @brief v[0..dim) as its codes have it: scale * level.
/// @complexity O(dim)
template <int Bits>
void decode_values(std::byte const* codes, BFloat16 scale, int dim, float* v) noexcept {
  F32x16 const factor = splat(to_float(scale));
  for (int c = 0; c < dim; c += 64) {
    F32x16 level[4];
    kernels::decode_64<Bits>(codes + value_code_bytes<Bits>(c), level);
    for (int i = 0; i < 4 && c + 16 * i < dim; ++i) {
      int const at = c + 16 * i;
      store_first(v + at, mul(level[i], factor), std::min(16, dim - at));
    }
  }
}

/// @brief The 2-bit codes of a row with 4-bit codes, under the same scale. May be in place.
/// @complexity O(dim)
inline void truncate_codes(std::byte const* four, int dim, std::byte* two) noexcept {
  for (int c = 0; c < dim; c += 64) {
    I32x16 const x = load_words(four + value_code_bytes<4>(c));
    auto const upper = [&](I32x16 shifted, std::int32_t mask) {
      return both(shifted, splat(mask));
    };
    store_bytes(two + value_code_bytes<2>(c),
                either(either(upper(shift_right<2>(x), 0x03), upper(shift_right<4>(x), 0x0C)),
                       either(upper(shift_right<6>(x), 0x30), upper(shift_right<8>(x), 0xC0))));
  }
}

/// @brief out[h][d] += sum over rows i of (weight * scale_i) * level, row by row.
///
/// The products weight * scale_i are rounded first; then one multiply-add a row, in order.
/// @param codes value_code_bytes<Bits>(dim) each
/// @param scales BFloat16 each, those of a block one behind the other
/// @param weights `weights[h * stride + i]` of row i; overwritten by the products with the scales
/// @param out [heads][dim], dim a multiple of 8
/// @complexity O(count * heads * dim); decodes each row once per head group
template <int Bits>
void accumulate_values(CodeRows const& codes, CodeRows const& scales, int count, float* weights,
                       std::ptrdiff_t stride, int heads, int dim, float* out) noexcept {
  for (int first = 0; first < count; first += tile_rows) {
    int const n = std::min(tile_rows, count - first);
    kernels::prefetch_codes(codes, scales, first + n, std::min(tile_rows, count - first - n));
    kernels::scale_weights(scales, first, n, weights, stride, heads);
    for (int h = 0; h < heads; h += head_group) {
      kernels::with_constants(std::min(head_group, heads - h), dim, [&](auto heads_c, auto dim_c) {
        int const d = dim_c() != 0 ? dim_c() : dim;
        float const* const w = weights + h * stride;
        float* const o = out + static_cast<std::ptrdiff_t>(h) * d;
        int c = 0;
        for (; c + 64 <= d; c += 64) {
          kernels::accumulate_64<Bits, heads_c(), true>(codes, first, n, w, stride, c, 64, o, d);
        }
        if (c < d) {
          kernels::accumulate_64<Bits, heads_c(), false>(codes, first, n, w, stride, c, d - c, o,
                                                         d);
        }
      });
    }
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
