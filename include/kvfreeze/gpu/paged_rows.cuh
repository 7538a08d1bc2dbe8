#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// @brief Where the rows of one lane lie: K and V of one KV head, in pages. Trivially copyable;
/// made by `KvPages::rows`, on either side.
///
/// Row i lies in slot `slots[i]`; slot s is token s % page_tokens of page `pages[s / page_tokens]`.
/// Either list may be null: then row i lies in slot i, and page p is number p. So a lane is an
/// index list (slots alone), a page table (pages alone), a list within a paged lane (both), or one
/// piece of memory (none). A list may be of granules: with `slot_shift` s entry i stands for the
/// 2^s rows of which the first lies in slot 2^s slots[i]. All addresses are multiples of 16 bytes.
/// @tparam T element type of the stored rows
template <Element T>
struct PagedRows {
  T const* k = nullptr;                  ///< K of token 0 of page 0
  T const* v = nullptr;                  ///< V of the same
  std::uint32_t const* slots = nullptr;  ///< [rows / 2^slot_shift, rounded up], or null
  std::uint32_t const* pages = nullptr;  ///< [slots / page_tokens, rounded up], or null
  std::size_t page_elements = 0;         ///< from page to page
  std::uint32_t row_elements = 0;        ///< from token to token within a page
  std::uint32_t page_shift = 0;          ///< log2 of the tokens of a page
  std::uint32_t slot_shift = 0;          ///< log2 of the rows of an entry of `slots`

  /// The lane's slot of a row.
  [[nodiscard]] KVFREEZE_HD std::uint32_t slot(std::uint32_t row) const noexcept {
    return slots == nullptr
               ? row
               : (slots[row >> slot_shift] << slot_shift) | (row & ((1U << slot_shift) - 1U));
  }

  /// The pool's slot of a row, in [0, 2^32): page * page_tokens + token.
  [[nodiscard]] KVFREEZE_HD std::uint32_t place(std::uint32_t row) const noexcept {
    std::uint32_t const slot = this->slot(row);
    if (pages == nullptr) {
      return slot;
    }
    std::uint32_t const token = slot & ((1U << page_shift) - 1U);
    return (pages[slot >> page_shift] << page_shift) | token;
  }

  /// Elements from `k` and `v` to a row, by the pool's slot.
  [[nodiscard]] KVFREEZE_HD std::size_t offset(std::uint32_t place) const noexcept {
    std::uint32_t const token = place & ((1U << page_shift) - 1U);
    return static_cast<std::size_t>(place >> page_shift) * page_elements +
           static_cast<std::size_t>(token) * row_elements;
  }
};

/// What is next to what within K, and within V, of a page.
enum class PageOrder : std::uint8_t {
  nhd,  ///< [page_tokens][heads][head_dim]
  hnd,  ///< [heads][page_tokens][head_dim]
};

/// @brief Pages of K and V of several KV heads, as FlashInfer's paged cache has them:
/// [page][2: K, V][page_tokens][heads][head_dim] (NHD) or [page][2][heads][page_tokens][head_dim]
/// (HND).
///
/// Its memory, with the page numbers of a sequence, is what such kernels take as `paged_kv_cache`
/// and `kv_page_indices`. A slot list goes to them as pages of one token. With heads = 1 a lane is
/// a request of its own. Bytes behind a page's V are the caller's: `page_elements` says how far the
/// next page is.
template <Element T>
struct KvPages {
  Span<T const> memory;  ///< whole pages, from a multiple of 16 bytes on
  int page_tokens = 1;   ///< a power of two
  int heads = 1;         ///< KV heads
  int head_dim = 0;      ///< a multiple of 8
  PageOrder order = PageOrder::nhd;
  std::size_t page_elements = 0;  ///< from page to page; 0: pages lie close together

  /// Elements of K of a page; V has as many.
  [[nodiscard]] KVFREEZE_HD std::size_t part_elements() const noexcept {
    return static_cast<std::size_t>(page_tokens) * static_cast<std::size_t>(heads) *
           static_cast<std::size_t>(head_dim);
  }

  /// Elements from page to page.
  [[nodiscard]] KVFREEZE_HD std::size_t page_stride() const noexcept {
    return page_elements == 0 ? 2 * part_elements() : page_elements;
  }

  /// @brief A lane's rows in this pool.
  /// @param head KV head, in [0, heads)
  /// @param slots, pages as in PagedRows; device memory that must outlive the view
  [[nodiscard]] KVFREEZE_HD PagedRows<T> rows(int head, std::uint32_t const* slots,
                                              std::uint32_t const* pages) const noexcept {
    bool const by_token = order == PageOrder::nhd;
    std::size_t const head_elements = static_cast<std::size_t>(head) *
                                      static_cast<std::size_t>(head_dim) *
                                      static_cast<std::size_t>(by_token ? 1 : page_tokens);
    PagedRows<T> out;
    out.k = memory.data() + head_elements;
    out.v = out.k + part_elements();
    out.slots = slots;
    out.pages = pages;
    out.page_elements = page_stride();
    out.row_elements = static_cast<std::uint32_t>(head_dim * (by_token ? heads : 1));
    while ((1 << out.page_shift) < page_tokens) {
      ++out.page_shift;
    }
    return out;
  }
};

/// @brief Checks a pool that lanes are made of: kernels cannot.
/// @throws InvalidArgument naming the field and its value
template <Element T>
void check_pages(KvPages<T> const& pool) {
  auto const reject = [](char const* field, std::size_t value, std::string const& rule) {
    throw InvalidArgument(std::string("KvPages::") + field + " is " + std::to_string(value) +
                          ", must be " + rule);
  };
  auto const whole = [](int x) { return static_cast<std::size_t>(x < 0 ? 0 : x); };
  if (pool.page_tokens < 1 || (pool.page_tokens & (pool.page_tokens - 1)) != 0) {
    reject("page_tokens", whole(pool.page_tokens), "a power of two");
  }
  if (pool.heads < 1) {
    reject("heads", whole(pool.heads), "at least 1");
  }
  if (pool.head_dim < 8 || pool.head_dim % 8 != 0) {
    reject("head_dim", whole(pool.head_dim), "a positive multiple of 8");
  }
  if (pool.page_stride() < 2 * pool.part_elements()) {
    reject("page_elements", pool.page_elements,
           "0 or at least " + std::to_string(2 * pool.part_elements()) + ", K and V of a page");
  }
  if (pool.page_stride() * sizeof(T) % 16 != 0) {
    reject("page_elements", pool.page_elements, "a multiple of 16 bytes");
  }
  if (pool.memory.size() % pool.page_stride() != 0) {
    reject("memory.size()", pool.memory.size(),
           "a multiple of the " + std::to_string(pool.page_stride()) + " elements of a page");
  }
  auto const address = reinterpret_cast<std::uintptr_t>(pool.memory.data());
  if (address % 16 != 0) {
    reject("memory.data() modulo 16", address % 16, "0");
  }
}

}  // namespace kvfreeze::gpu
