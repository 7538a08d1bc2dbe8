#pragma once

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/key_residuals.hpp>

#include <cstddef>

namespace kvfreeze {

/// @brief Key codes in nested planes: every row's upper bits are resident and screen it, lower ones
/// are held for compact rows only.
///
/// A key's finest code has Total bits, as KeyCodes<Total> would; the screen has its upper bits, in
/// the format of KeyCodes<Screen>, and a compact level with Screen + 2 or Screen + 4 bits a key
/// those that follow. Each stands for the middle of the finest levels that it covers.
/// @tparam Screen bits of every row
/// @tparam Total bits of the finest code, Screen + 2 or Screen + 4
/// @tparam Group rows that share origin and step, a multiple of 64
template <int Screen = 2, int Total = 6, int Group = 64>
struct NestedKeyCodes : KeyCodes<Screen, Group> {
  static_assert(Total - Screen == 2 || Total - Screen == 4,
                "kvfreeze: NestedKeyCodes has 2 or 4 bits below its screen");

  static constexpr int total_bits = Total;

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    auto* const origins = KeyCodes<Screen, Group>::scales(group, dim);
    host::encode_key_codes<Screen, Total>(keys, Group, dim, group, origins, origins + dim);
  }

  /// @brief The Residual bits that follow the screen's in the codes of one key of the group.
  /// @param key [dim]
  /// @param out host::residual_bytes<Residual>(dim)
  template <int Residual>
  static void encode_residual(float const* key, int dim, std::byte const* group,
                              std::byte* out) noexcept {
    Half const* const origins = KeyCodes<Screen, Group>::scales(group, dim);
    host::encode_key_residual<Screen, Residual>(key, dim, origins, origins + dim, out);
  }

  /// Folds a group's steps into the queries, for `scan_folded` and `refine`.
  static void fold(DigestQuery const& query, std::byte const* group,
                   host::FoldedQueries const& folded, int index) noexcept {
    Half const* const origins = KeyCodes<Screen, Group>::scales(group, query.dim);
    host::fold_queries(query.values, query.heads, query.dim, origins, origins + query.dim, folded,
                       index);
  }

  /// The screen's logits of a group, `logits[h * stride + row]`.
  static void scan_folded(host::FoldedQueries const& folded, int index, std::byte const* group,
                          float* logits, std::ptrdiff_t stride) noexcept {
    host::scan_folded<Screen>(folded, index, group, Group, logits, stride);
  }

  /// @brief Turns the screen's logits of pooled rows into those of their longer codes.
  /// @param groups [count] the entry of `folded` for each row
  template <int Residual>
  static void refine(host::CodeRows const& residuals, int count, std::uint32_t const* groups,
                     host::FoldedQueries const& folded, float* logits,
                     std::ptrdiff_t stride) noexcept {
    host::add_residuals<Residual>(residuals, count, groups, folded, logits, stride);
  }
};

static_assert(DigestPolicy<NestedKeyCodes<2, 4>> && DigestPolicy<NestedKeyCodes<2, 6>>);

}  // namespace kvfreeze
