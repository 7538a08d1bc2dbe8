#pragma once

/// @file
/// @brief Encoding and decoding of nested key codes. The format is that of
/// `digest/nested_key_codes.hpp`.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/host/kernels/key_codes.hpp>

#include <algorithm>
#include <array>
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
KVFREEZE_HD constexpr int planes_of(Half first_quarter) noexcept { return first_quarter.bits & 3; }

KVFREEZE_HD constexpr int planes_of(Half const* quarters, int quad) noexcept {
  return planes_of(quarters[4 * quad]);
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
KVFREEZE_HD inline void choose_scale(float low, float high, float mean, float finest, int planes,
                                     bool carries_planes, Half& origin, Half& quarter) noexcept {
  using kvfreeze::detail::smaller;
  float const half = kvfreeze::detail::larger(high - mean, mean - low);
  float const range = planes == 0 ? half + half : high - low;
  float const cell = kvfreeze::detail::quotient(range, finest - 1.0F);
  std::uint32_t bits = from_float<Half>(cell * (finest * 0.25F)).bits;
  if (carries_planes) {  // a little wider rather than narrower
    bits = ((smaller(bits, std::uint32_t{0x7BF8}) + 3U) & ~3U) | static_cast<std::uint32_t>(planes);
  }
  quarter.bits = static_cast<std::uint16_t>(smaller(bits, std::uint32_t{0x7BFF}));
  float const first = planes == 0 ? kvfreeze::detail::fused(to_float(quarter), -2.0F, mean)
                                  : kvfreeze::detail::fused(cell, -0.5F, low);
  origin = from_float<Half>(kvfreeze::detail::clamped(first, -65504.0F, 65504.0F));
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
        float const cell = to_float(codes.quarters[c]) * 4.0F / static_cast<float>(1 << 2 * planes);
        auto const digit = static_cast<float>((code >> (8 * i)) & 0xFFU);
        keys[static_cast<std::ptrdiff_t>(row) * codes.dim + c] =
            kvfreeze::detail::fused(digit + 0.5F, cell, to_float(codes.origins[c]));
      }
    }
    unit += planes;
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
