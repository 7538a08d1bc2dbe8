#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/key_residuals.hpp>
#include <kvfreeze/host/kernels/nested_codes.hpp>
#include <kvfreeze/host/kernels/nested_queries.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze {

/// @brief Key codes in nested planes: every row's screen is resident, lower bits are held for
/// compact rows only. The screen's bits go where the queries need them.
///
/// Four neighbouring channels, a quad, share RoPE frequencies and matter alike. Group by group each
/// quad gets 0 to 3 planes of 2 bits, Screen bits a channel on average: one plane after the other
/// goes to the quad with the largest expected error, the sum of E[q²] times the squared range of
/// its channels (reverse water-filling; Cover and Thomas, Elements of Information Theory, 10.3).
/// E[q²] comes from the queries that the lane has seen; docs/ladder.md has figures. Below the
/// screen all channels have equally many bits.
///
/// A channel counts from its origin in quarters of its range: digit by digit in base 4, the first
/// planes give the cell that a row stands for the middle of, and 2 or 4 further bits, the residual,
/// part that cell again. Without planes the cell is the whole range about the mean.
///
/// Format, per 64 rows: for each unit, a plane of a quad, 64 bytes as a line of KeyCodes<2>, in
/// order of quads and planes; after all rows [origins: dim Half][quarters: dim Half]. The lowest
/// two bits of a quad's first quarter are its number of planes.
/// @tparam Screen mean bits of a key's element in every row, in [1, 4]
/// @tparam Total the same with the longest residual, Screen + 2 or Screen + 4
/// @tparam Group rows that share origin and quarters, a multiple of 64
template <int Screen = 1, int Total = 5, int Group = 64>
struct NestedKeyCodes {
  static_assert(Screen >= 1 && Screen <= 4, "kvfreeze: NestedKeyCodes has a screen of 1 to 4 bits");
  static_assert(Total - Screen == 2 || Total - Screen == 4,
                "kvfreeze: NestedKeyCodes has 2 or 4 bits below its screen");
  static_assert(Group > 0 && Group % 64 == 0, "kvfreeze: Group must be a multiple of 64");

  static constexpr int bits = Screen;
  static constexpr int total_bits = Total;
  static constexpr int group_rows = Group;

  /// Planes of channel quads in a group, an even number.
  static KVFREEZE_HD constexpr int units(int dim) noexcept { return (dim * Screen + 15) / 16 * 2; }

  /// Bytes of a group, a multiple of 64; `group` pointers must be aligned to 2.
  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    return plane_bytes(dim) + (2U * static_cast<std::size_t>(dim) * sizeof(Half) + 63U) / 64U * 64U;
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    encode(keys, nullptr, dim, group);
  }

  /// @param importance [dim], the sum over queries of q² by channel; null: all alike
  static void encode(float const* keys, float const* importance, int dim,
                     std::byte* group) noexcept {
    host::encode_nested_codes(keys, importance, Group, codes(group, dim), Total - Screen);
  }

  /// Logits of a group, `logits[h * stride + row]`. Folds the queries on the stack: where rows of
  /// the group are refined too, `fold` once and `scan_folded`.
  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    constexpr int most =
        host::NestedQueries::line(host::kernels::max_head_dim, units(host::kernels::max_head_dim));
    alignas(64) std::int8_t weights[host::head_group * most];
    host::FoldScale scales[host::head_group];
    for (int first = 0; first < query.heads; first += host::head_group) {
      int const heads = std::min(host::head_group, query.heads - first);
      DigestQuery const some{query.values + static_cast<std::ptrdiff_t>(first) * query.dim, heads,
                             query.dim};
      host::NestedQueries const folded{weights, scales, heads, query.dim, units(query.dim)};
      fold(some, group, folded, 0);
      scan_folded(folded, 0, group, logits + first * stride, stride);
    }
  }

  /// @brief keys[group_rows][dim] as the screen has them.
  static void decode(std::byte const* group, int dim, float* keys) noexcept {
    host::decode_nested_codes(codes(group, dim), Group, keys);
  }

  /// @brief The Residual bits that follow the screen's in the codes of one key of the group.
  /// @param key [dim]
  /// @param out host::residual_bytes<Residual>(dim)
  template <int Residual>
  static void encode_residual(float const* key, int dim, std::byte const* group,
                              std::byte* out) noexcept {
    host::encode_key_residual<Residual>(key, codes(group, dim), out);
  }

  /// Folds a group's cells into the queries, for `scan_folded` and `refine`.
  static void fold(DigestQuery const& query, std::byte const* group,
                   host::NestedQueries const& folded, int index) noexcept {
    host::fold_nested(query.values, codes(group, query.dim), folded, index);
  }

  /// The screen's logits of a group, `logits[h * stride + row]`.
  static void scan_folded(host::NestedQueries const& folded, int index, std::byte const* group,
                          float* logits, std::ptrdiff_t stride) noexcept {
    host::scan_folded<2>(folded.screen(), index, group, Group, logits, stride);
  }

  /// @brief Turns the screen's logits of pooled rows into those of their longer codes.
  /// @param groups [count] the entry of `folded` for each row
  template <int Residual>
  static void refine(host::CodeRows const& residuals, int count, std::uint32_t const* groups,
                     host::NestedQueries const& folded, float* logits,
                     std::ptrdiff_t stride) noexcept {
    host::add_residuals<Residual>(residuals, count, groups, folded.cells(), logits, stride);
  }

  /// A group's parts.
  static KVFREEZE_HD host::NestedCodes codes(std::byte const* group, int dim) noexcept {
    auto const* const origins = reinterpret_cast<Half const*>(group + plane_bytes(dim));
    return {group, origins, origins + dim, dim, units(dim)};
  }

  static KVFREEZE_HD host::MutableNestedCodes codes(std::byte* group, int dim) noexcept {
    auto* const origins = reinterpret_cast<Half*>(group + plane_bytes(dim));
    return {group, origins, origins + dim, dim, units(dim)};
  }

 private:
  static KVFREEZE_HD constexpr std::size_t plane_bytes(int dim) noexcept {
    return static_cast<std::size_t>(units(dim)) * Group;
  }
};

static_assert(DigestPolicy<NestedKeyCodes<1, 5>> && DigestPolicy<NestedKeyCodes<2, 6>>);

}  // namespace kvfreeze
