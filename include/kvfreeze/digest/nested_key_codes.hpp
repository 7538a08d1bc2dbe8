#pragma once

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>
#include <kvfreeze/host/kernels/key_residuals.hpp>

#include <cstddef>

namespace kvfreeze {

/// @brief Key codes in nested planes: every row's upper bits are resident and screen it, the lower
/// ones are held for compact rows only.
///
/// The screen is KeyCodes<Screen, Group>. A full code has Total bits over the same range, with a
/// step 2^(Total - Screen) times finer; its upper bits are the screen's.
/// @tparam Screen bits of every row
/// @tparam Total bits of a compact row
/// @tparam Group rows that share minimum and step, a multiple of 64
template <int Screen = 2, int Total = 4, int Group = 64>
struct NestedKeyCodes : KeyCodes<Screen, Group> {
  static_assert(Total - Screen == 2 || Total - Screen == 4,
                "kvfreeze: NestedKeyCodes has 2 or 4 bits below its screen");

  static constexpr int residual_bits = Total - Screen;

  /// Bytes of the lower bits of one row and KV head.
  static constexpr std::size_t residual_bytes(int dim) noexcept {
    return host::residual_bytes<residual_bits>(dim);
  }

  /// @brief The lower bits of a row of an encoded group.
  /// @param key [dim]
  static void encode_residual(float const* key, int dim, std::byte const* group,
                              std::byte* out) noexcept {
    Half const* const scales = KeyCodes<Screen, Group>::scales(group, dim);
    host::encode_key_residual<Screen, residual_bits>(key, dim, scales, scales + dim, out);
  }

  /// Folds a group's steps into the queries, for `scan_folded` and `refine`.
  static void fold(DigestQuery const& query, std::byte const* group,
                   host::FoldedQueries const& folded, int index) noexcept {
    Half const* const scales = KeyCodes<Screen, Group>::scales(group, query.dim);
    host::fold_queries(query.values, query.heads, query.dim, scales, scales + query.dim, folded,
                       index);
  }

  /// The screen's logits of a group, `logits[h * stride + row]`.
  static void scan_folded(host::FoldedQueries const& folded, int index, std::byte const* group,
                          float* logits, std::ptrdiff_t stride) noexcept {
    host::scan_folded<Screen>(folded, index, group, Group, logits, stride);
  }

  /// @brief Turns the screen's logits of pooled rows into those of their full codes.
  /// @param groups [count] the group of each row
  static void refine(host::CodeRows const& residuals, int count, std::uint32_t const* groups,
                     host::FoldedQueries const& folded, float* logits,
                     std::ptrdiff_t stride) noexcept {
    host::add_residuals<residual_bits>(residuals, count, groups, folded, logits, stride);
  }
};

static_assert(DigestPolicy<NestedKeyCodes<2, 4>> && DigestPolicy<NestedKeyCodes<2, 6>>);

}  // namespace kvfreeze
