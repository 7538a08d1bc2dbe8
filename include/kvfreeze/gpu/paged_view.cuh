#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Where the exact rows of a cache lie, for attention kernels of an engine's own: pages of
/// 16 rows of one KV head, K at `k + page * page_elements`, [16][head_dim], V likewise.
///
/// That is the paged layout of FlashInfer and vLLM, with a batch of [sequences][kv_heads], one KV
/// head each, and `page_elements` as the stride from page to page. With Grouping::layer a page
/// holds the rows of all heads, [16][kv_heads][head_dim], for a batch of [sequences]. Addresses
/// stay the same as long as the cache lives; which pages a lane has is told by PageLists.
template <Element T>
struct PagedView {
  static constexpr int page_rows = 16;

  T const* k = nullptr;
  T const* v = nullptr;
  std::size_t page_elements = 0;  ///< from page to page
  std::size_t pages = 0;          ///< of the pool
};

/// @brief Which pages hold the exact rows of each lane of a step, as FlashInfer's `indptr`,
/// `indices` and `last_page_len`: device memory of the caller, written by view_async().
struct PageLists {
  Span<std::int32_t> first;           ///< [lanes + 1]: where a lane's pages begin in `pages`
  Span<std::int32_t> pages;           ///< the lanes' pages, one lane behind another
  Span<std::int32_t> last_page_rows;  ///< [lanes]: rows on a lane's last page
};

}  // namespace kvfreeze::gpu
