#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/key_codes.hpp>

#include <cstddef>

namespace kvfreeze {

/// @brief Keys as per-channel asymmetric codes of 2, 3, 4 or 8 bits.
///
/// Levels are evenly spaced from the least to the largest element of a channel over the group, so
/// that neither is clipped: step s = (max - min) / (2^Bits - 1), origin m = min - s / 2, both
/// stored as Half. An element is floor((k - m) / s), clamped, and stands for m + (code + 1/2) s.
/// The scan multiplies codes with int8 queries, into which the steps are folded: integer products,
/// so that host and device agree.
///
/// Format, per 64 rows: planes, then after all planes [minima: dim Half][steps: dim Half]. A plane
/// of b-bit fields is a sequence of 64-byte lines, each 16 dwords, one per row of a block of 16;
/// a dword holds four channels, a byte each, and a byte holds the fields of 8 / b (channel quad,
/// row block) pairs, the row block running fastest. Three bits are a plane of the upper two and a
/// plane of the lowest.
/// @tparam Bits of a code
/// @tparam Group rows that share minimum and step, a multiple of 64
template <int Bits, int Group = 64>
struct KeyCodes {
  static_assert(Bits == 2 || Bits == 3 || Bits == 4 || Bits == 8,
                "kvfreeze: KeyCodes has 2, 3, 4 or 8 bits");
  static_assert(Group > 0 && Group % 64 == 0, "kvfreeze: Group must be a multiple of 64");

  static constexpr int bits = Bits;
  static constexpr int group_rows = Group;

  /// Bytes of a group, a multiple of 64; `group` pointers must be aligned to 2.
  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    return (code_bytes(dim) + 2U * static_cast<std::size_t>(dim) * sizeof(Half) + 63U) / 64U * 64U;
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    auto* const minima = reinterpret_cast<Half*>(group + code_bytes(dim));
    host::encode_key_codes<Bits>(keys, Group, dim, group, minima, minima + dim);
  }

  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    Half const* const minima = scales(group, query.dim);
    host::scan_key_codes<Bits>(query.values, query.heads, query.dim, group, minima,
                               minima + query.dim, Group, logits, stride);
  }

  /// @brief keys[group_rows][dim] as the codes have them.
  static void decode(std::byte const* group, int dim, float* keys) noexcept {
    Half const* const minima = scales(group, dim);
    for (int begin = 0; begin < Group; begin += 64) {
      std::byte const* const plane =
          group + host::kernels::plane_bytes<Bits>(dim) * static_cast<std::size_t>(begin / 64);
      for (int quad = 0; quad < dim / 4; ++quad) {
        std::uint32_t rows[64] = {};
        if constexpr (Bits == 3) {
          host::kernels::get_plane<2>(plane, quad, 1, rows);
          host::kernels::get_plane<1>(plane + host::kernels::plane_bytes<2>(dim), quad, 0, rows);
        } else {
          host::kernels::get_plane<Bits>(plane, quad, 0, rows);
        }
        for (int r = 0; r < 64; ++r) {
          for (int i = 0; i < 4; ++i) {
            int const channel = 4 * quad + i;
            auto const code = static_cast<float>((rows[r] >> (8 * i)) & 0xFFU);
            keys[static_cast<std::ptrdiff_t>(begin + r) * dim + channel] = detail::fused(
                code + 0.5F, to_float(minima[dim + channel]), to_float(minima[channel]));
          }
        }
      }
    }
  }

  /// The group's minima [dim], and behind them its steps [dim].
  static KVFREEZE_HD Half const* scales(std::byte const* group, int dim) noexcept {
    return reinterpret_cast<Half const*>(group + code_bytes(dim));
  }

  static KVFREEZE_HD Half* scales(std::byte* group, int dim) noexcept {
    return reinterpret_cast<Half*>(group + code_bytes(dim));
  }

 private:
  static KVFREEZE_HD constexpr std::size_t code_bytes(int dim) noexcept {
    return host::kernels::plane_bytes<Bits>(dim) * (Group / 64U);
  }
};

static_assert(DigestPolicy<KeyCodes<2>> && DigestPolicy<KeyCodes<3>> && DigestPolicy<KeyCodes<4>> &&
              DigestPolicy<KeyCodes<8>>);

}  // namespace kvfreeze
