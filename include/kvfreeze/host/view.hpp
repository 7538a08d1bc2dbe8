#pragma once

#include <kvfreeze/element.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvfreeze::host {

/// @brief The exact rows of one lane, in position order, for an attention kernel of one's own.
///
/// Rows lie in blocks of 16: [K of 16 rows][V of 16 rows][...], a row being `heads` * `head_dim`
/// elements; that is a paged layout with pages of 16 rows (or of `PageTokens`, which divide 16).
/// Valid until the next call that has the same part.
template <Element T>
struct PagedView {
  std::byte const* base = nullptr;
  std::size_t block_bytes = 0;  ///< from block to block
  int block_rows = 16;
  int heads = 0;  ///< KV heads of the lane
  int head_dim = 0;
  std::span<std::uint32_t const> slots;     ///< where row i lies
  std::span<std::int32_t const> positions;  ///< its token position, ascending

  [[nodiscard]] int rows() const noexcept { return static_cast<int>(slots.size()); }

  /// K of row i, KV head h of the lane: head_dim elements.
  [[nodiscard]] T const* k(int i, int h = 0) const noexcept {
    auto const slot = slots[static_cast<std::size_t>(i)];
    auto const block = slot / static_cast<std::uint32_t>(block_rows);
    auto const row = slot % static_cast<std::uint32_t>(block_rows);
    return reinterpret_cast<T const*>(base + block * block_bytes) +
           (static_cast<std::ptrdiff_t>(row) * heads + h) * head_dim;
  }

  /// V of row i, KV head h of the lane: head_dim elements.
  [[nodiscard]] T const* v(int i, int h = 0) const noexcept {
    return k(i, h) + static_cast<std::ptrdiff_t>(block_rows) * heads * head_dim;
  }
};

}  // namespace kvfreeze::host
