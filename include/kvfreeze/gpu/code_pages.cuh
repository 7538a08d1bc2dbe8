#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/gpu/divisor.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Where the digest groups or the code rows of a lane lie: `per_page` of them on each page.
///
/// Pages are those of a pool, in any order, or follow one another. All addresses are of device
/// memory; items are aligned to 16.
struct CodePages {
  std::byte const* base = nullptr;       ///< the pool's first page, or the lane's
  std::uint32_t const* pages = nullptr;  ///< the lane's pages in the pool; null: one after another
  Divisor per_page = 1U;                 ///< items on a page
  std::uint32_t page_bytes = 0;          ///< from page to page
  std::uint32_t item_bytes = 0;          ///< from item to item on a page

  CodePages() = default;

  /// Items one behind another.
  KVFREEZE_HD CodePages(std::byte const* first, std::size_t bytes) noexcept
      : base(first), page_bytes(static_cast<std::uint32_t>(bytes)) {}

  KVFREEZE_HD CodePages(std::byte const* first, std::uint32_t const* table, Divisor items,
                        std::size_t from_page_to_page, std::size_t from_item_to_item) noexcept
      : base(first),
        pages(table),
        per_page(items),
        page_bytes(static_cast<std::uint32_t>(from_page_to_page)),
        item_bytes(static_cast<std::uint32_t>(from_item_to_item)) {}

  /// @param index below 2^31
  [[nodiscard]] KVFREEZE_HD std::byte const* at(std::uint32_t index) const noexcept {
    std::uint32_t const page = index / per_page;
    return base + std::size_t{pages != nullptr ? pages[page] : page} * page_bytes +
           (index - page * per_page) * item_bytes;
  }
};

}  // namespace kvfreeze::gpu
