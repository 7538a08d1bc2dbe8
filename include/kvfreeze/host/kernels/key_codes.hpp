#pragma once

/// @file
/// @brief Encoding and scanning of per-channel key codes. The format is that of
/// `digest/key_codes.hpp`.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/convert.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

inline constexpr int max_head_dim = 512;

/// Bytes of one plane over 64 rows.
template <int Bits>
constexpr std::size_t plane_bytes(int dim) noexcept {
  return static_cast<std::size_t>(dim) * 8U * Bits;
}

/// Where the field of (channel quad, row block) lies in a plane: line and shift.
template <int Bits>
struct FieldPlace {
  int line;
  int shift;

  constexpr FieldPlace(int quad, int block) noexcept {
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

/// Adds codes * weights of one plane over 64 rows: sums[h][block].
template <int Bits, int Heads>
void scan_plane(std::byte const* plane, std::int8_t const* const* weights, int dim,
                I32x16 (&sums)[Heads][4]) noexcept {
  I32x16 const mask = splat(static_cast<std::int32_t>(0x01010101U * ((1U << Bits) - 1U)));
  constexpr int fields = 8 / Bits;
  constexpr int lines = fields < 4 ? 4 / fields : 1;  // of one or two channel quads
  constexpr int quads = fields * lines / 4;
  for (int first = 0; first < dim / 4; first += quads) {
    KVFREEZE_UNROLL
    for (int l = 0; l < lines; ++l) {
      I32x16 line = load_line(plane);
      plane += 64;
      KVFREEZE_UNROLL
      for (int f = 0; f < fields; ++f) {
        int const place = l * fields + f;
        I32x16 const codes = both(line, mask);
        if constexpr (Bits < 8) {
          line = shift_right<Bits>(line);
        }
        KVFREEZE_UNROLL
        for (int h = 0; h < Heads; ++h) {
          std::int32_t four;
          std::memcpy(&four, weights[h] + 4 * (first + place / 4), sizeof four);
          I32x16& total = sums[h][place % 4];
          total = dot_bytes<(1 << Bits) - 1>(total, codes, splat(four));
        }
      }
    }
  }
}

/// One head's query with the group's steps folded in: int8 weights, their unit, and the logit of
/// code -1/2 everywhere.
struct FoldedQuery {
  alignas(64) std::int8_t weights[max_head_dim];
  float unit;
  float base;

  void fold(float const* q, Half const* minima, Half const* steps, int dim) noexcept {
    alignas(64) float folded[max_head_dim];
    F32x16 total = splat(0.0F);
    F32x16 highest = splat(0.0F);
    auto const step = [&](auto const get, auto const put, int i) {
      F32x16 const query = get(q + i);
      F32x16 const width = get(steps + i);
      F32x16 const weight = mul(query, width);
      highest = max(abs(weight), highest);
      put(folded + i, weight);
      total = fma(query, fma(width, splat(0.5F), get(minima + i)), total);
    };
    int i = 0;
    for (; i + 16 <= dim; i += 16) {
      step([](auto const* p) { return load(p); }, [](float* p, F32x16 x) { store(p, x); }, i);
    }
    if (i < dim) {  // the upper lanes are zeros: stored too, they make the weights whole vectors
      step([](auto const* p) { return load8(p); }, [](float* p, F32x16 x) { store(p, x); }, i);
    }
    base = sum(total);
    float const most = largest(highest);
    unit = most / 127.0F;
    float const inverse = most > 0x1p-100F ? 127.0F / most : 0.0F;
    for (i = 0; i < dim; i += 16) {
      store_bytes(weights + i, rounded(mul(load(folded + i), splat(inverse))));
    }
  }
};

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
    // Codes refer to the minimum and step as stored, so that their rounding costs nothing.
    alignas(64) float values[16];
    Half halves[32];
    low = max(min(low, splat(largest_half)), splat(-largest_half));
    store(values, low);
    from_floats(values, halves, 16);
    F32x16 const origin = load(halves);
    F32x16 const scale = splat(1.0F / (highest_code + 1.0F));
    F32x16 const width = min(mul(sub(high, origin), scale), splat(largest_half));
    store(values, max(width, splat(0.0F)));
    from_floats(values, halves + 16, 16);
    auto const size = static_cast<std::size_t>(channels) * sizeof(Half);
    std::memcpy(minima + c, halves, size);
    std::memcpy(steps + c, halves + 16, size);
    float inverses[16];
    for (int i = 0; i < 16; ++i) {
      float const s = to_float(halves[16 + i]);
      inverses[i] = s > 0.0F ? 1.0F / s : 0.0F;
    }
    F32x16 const inverse = load(inverses);
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

namespace kernels {

template <int Bits, int Heads>
void scan_heads(FoldedQuery const* folded, std::byte const* planes, int group_rows, int dim,
                float* logits, std::ptrdiff_t stride) noexcept {
  std::int8_t const* weights[Heads];
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    weights[h] = folded[h].weights;
  }
  for (int begin = 0; begin < group_rows; begin += 64) {
    I32x16 sums[Heads][4];
    KVFREEZE_UNROLL
    for (auto& head : sums) {
      KVFREEZE_UNROLL
      for (auto& x : head) {
        x = splat(0);
      }
    }
    if constexpr (Bits == 3) {
      scan_plane<2>(planes, weights, dim, sums);
      KVFREEZE_UNROLL
      for (auto& head : sums) {
        KVFREEZE_UNROLL
        for (auto& x : head) {
          x = shift_left<1>(x);
        }
      }
      scan_plane<1>(planes + plane_bytes<2>(dim), weights, dim, sums);
    } else {
      scan_plane<Bits>(planes, weights, dim, sums);
    }
    planes += plane_bytes<Bits>(dim);
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      F32x16 const unit = splat(folded[h].unit);
      F32x16 const base = splat(folded[h].base);
      KVFREEZE_UNROLL
      for (int b = 0; b < 4; ++b) {
        store(logits + h * stride + begin + 16 * b, fma(to_floats(sums[h][b]), unit, base));
      }
    }
  }
}

}  // namespace kernels

/// @brief logits[h * stride + row] of one group, estimated; `q` is [heads][dim].
///
/// int8 queries with the steps folded in, one unit per head and group; products are exact int32.
template <int Bits>
void scan_key_codes(float const* q, int heads, int dim, std::byte const* planes, Half const* minima,
                    Half const* steps, int group_rows, float* logits,
                    std::ptrdiff_t stride) noexcept {
  kernels::FoldedQuery folded[head_group];
  for (int first = 0; first < heads; first += head_group) {
    int const count = std::min(head_group, heads - first);
    for (int h = 0; h < count; ++h) {
      folded[h].fold(q + (first + h) * dim, minima, steps, dim);
    }
    float* const out = logits + first * stride;
    switch (count) {
      case 1:
        kernels::scan_heads<Bits, 1>(folded, planes, group_rows, dim, out, stride);
        break;
      case 2:
        kernels::scan_heads<Bits, 2>(folded, planes, group_rows, dim, out, stride);
        break;
      case 3:
        kernels::scan_heads<Bits, 3>(folded, planes, group_rows, dim, out, stride);
        break;
      default:
        kernels::scan_heads<Bits, 4>(folded, planes, group_rows, dim, out, stride);
        break;
    }
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
