#pragma once

/// @file
/// @brief Encoding and scanning of per-channel key codes. The format is that of
/// `digest/key_codes.hpp`.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

inline constexpr int max_head_dim = 512;

/// Where the field of (channel quad, row block) lies in a plane: line and shift.
template <int Bits>
struct FieldPlace {
  int line;
  int shift;

  KVFREEZE_HD constexpr FieldPlace(int quad, int block) noexcept {
    int const field = quad * 4 + block;
    line = field / (8 / Bits);
    shift = field % (8 / Bits) * Bits;
  }
};

/// Puts the codes of 64 rows by 16 channels ([row][16] bytes) into a zeroed plane.
template <int Bits>
void put_plane(std::uint8_t const* codes, int first_channel, int channels, int code_shift,
               std::byte* plane) noexcept {
  constexpr std::uint32_t field_mask = 0x01010101U * ((1U << Bits) - 1U);
  for (int quad = 0; quad < channels / 4; ++quad) {
    for (int block = 0; block < 4; ++block) {
      FieldPlace<Bits> const place(first_channel / 4 + quad, block);
      std::byte* const line = plane + static_cast<std::size_t>(place.line) * 64U;
      for (int r = 0; r < 16; ++r) {
        std::uint32_t four = 0;
        std::uint32_t word = 0;
        std::memcpy(&four, codes + (block * 16 + r) * 16 + quad * 4, sizeof four);
        std::memcpy(&word, line + 4 * r, sizeof word);
        word |= ((four >> code_shift) & field_mask) << place.shift;
        std::memcpy(line + 4 * r, &word, sizeof word);
      }
    }
  }
}

/// Reads the codes of one channel quad back, as put_plane had them; ORs them in.
template <int Bits>
void get_plane(std::byte const* plane, int quad, int code_shift, std::uint32_t* rows64) noexcept {
  constexpr std::uint32_t field_mask = 0x01010101U * ((1U << Bits) - 1U);
  for (int row = 0; row < 64; ++row) {
    FieldPlace<Bits> const place(quad, row / 16);
    std::uint32_t word = 0;
    std::memcpy(&word, plane + static_cast<std::size_t>(place.line) * 64U + 4 * (row % 16),
                sizeof word);
    rows64[row] |= ((word >> place.shift) & field_mask) << code_shift;
  }
}

/// 1 / step, or 0 for a step of 0.
inline F32x16 inverse_step(F32x16 step) noexcept {
  return select(less(splat(0.0F), step), div(splat(1.0F), step), splat(0.0F));
}

}  // namespace kernels

/// @brief Encodes keys [group_rows][dim]; the format of KeyCodes<Bits, group_rows>.
/// @complexity O(group_rows * dim)
template <int Bits>
void encode_key_codes(float const* keys, int group_rows, int dim, std::byte* planes, Half* minima,
                      Half* steps) noexcept {
  constexpr auto highest_code = static_cast<float>((1 << Bits) - 1);
  constexpr float largest_half = 65504.0F;
  std::memset(planes, 0,
              kernels::plane_bytes<Bits>(dim) * static_cast<std::size_t>(group_rows / 64));
  for (int c = 0; c < dim; c += 16) {
    int const channels = std::min(16, dim - c);
    auto const get = [&](int row) {
      float const* const p = keys + static_cast<std::ptrdiff_t>(row) * dim + c;
      return channels == 16 ? load(p) : load8(p);
    };
    F32x16 low = get(0);
    F32x16 high = low;
    for (int r = 1; r < group_rows; ++r) {
      F32x16 const k = get(r);
      low = min(k, low);
      high = max(k, high);
    }
    // Levels reach from the least to the largest key; the origin lies half a step below, so that
    // cutting off rounds. Codes refer to origin and step as stored: rounding those costs nothing.
    alignas(64) float values[16];
    Half halves[32];
    F32x16 const step = mul(sub(high, low), splat(1.0F / highest_code));
    low = fma(step, splat(-0.5F), low);
    low = max(min(low, splat(largest_half)), splat(-largest_half));
    store(values, low);
    from_floats(values, halves, 16);
    F32x16 const origin = load(halves);
    store(values, max(min(step, splat(largest_half)), splat(0.0F)));
    from_floats(values, halves + 16, 16);
    auto const size = static_cast<std::size_t>(channels) * sizeof(Half);
    std::memcpy(minima + c, halves, size);
    std::memcpy(steps + c, halves + 16, size);
    F32x16 const inverse = kernels::inverse_step(load(halves + 16));
    for (int begin = 0; begin < group_rows; begin += 64) {
      alignas(64) std::uint8_t codes[64 * 16];
      for (int r = 0; r < 64; ++r) {
        F32x16 const exact = mul(sub(get(begin + r), origin), inverse);
        F32x16 const code = min(max(exact, splat(0.0F)), splat(highest_code));
        store_bytes(codes + r * 16, truncated(code));
      }
      std::byte* const plane =
          planes + kernels::plane_bytes<Bits>(dim) * static_cast<std::size_t>(begin / 64);
      if constexpr (Bits == 3) {
        kernels::put_plane<2>(codes, c, channels, 1, plane);
        kernels::put_plane<1>(codes, c, channels, 0, plane + kernels::plane_bytes<2>(dim));
      } else {
        kernels::put_plane<Bits>(codes, c, channels, 0, plane);
      }
    }
  }
}

/// @brief logits[h * stride + row] of one group, estimated; `q` is [heads][dim].
///
/// int8 queries with the steps folded in, one unit per head and group; products are exact int32.
template <int Bits>
void scan_key_codes(float const* q, int heads, int dim, std::byte const* planes, Half const* minima,
                    Half const* steps, int group_rows, float* logits,
                    std::ptrdiff_t stride) noexcept {
  // A head group at a time: the folded queries of any number of heads fit on the stack.
  alignas(64) std::int8_t weights[head_group * FoldedQueries::padded(kernels::max_head_dim)];
  FoldScale scales[head_group];
  for (int first = 0; first < heads; first += head_group) {
    FoldedQueries const folded{weights, scales, std::min(head_group, heads - first), dim};
    fold_queries(q + static_cast<std::ptrdiff_t>(first) * dim, folded.heads, dim, minima, steps,
                 folded, 0);
    scan_folded<Bits>(folded, 0, planes, group_rows, logits + first * stride, stride);
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
