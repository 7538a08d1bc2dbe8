#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// @brief Where exact granules lie on the device: pages of [K of each slot][V of each slot], a
/// granule in each slot. A view; owns nothing.
///
/// Slots are numbered through all pages. With one slot a page the pool is [slot][K, V].
struct GranulePool {
  Span<std::byte> memory;          ///< whole pages, one behind another
  std::uint32_t row_bytes = 0;     ///< K of a row; its V has as many
  std::uint32_t granule_rows = 1;  ///< in [1, 255]
  std::uint32_t page_slots = 1;    ///< a power of two
  std::size_t page_bytes = 0;      ///< from page to page; what lies behind V is not touched
  std::size_t values_offset = 0;   ///< of the first slot's V within its page

  /// K of a granule; its V has as many bytes.
  [[nodiscard]] KVFREEZE_HD std::size_t part_bytes() const noexcept {
    return std::size_t{row_bytes} * granule_rows;
  }

  [[nodiscard]] KVFREEZE_HD std::size_t granule_bytes() const noexcept { return 2 * part_bytes(); }

  [[nodiscard]] std::size_t slots() const noexcept {
    return page_bytes == 0 ? 0 : memory.size() / page_bytes * page_slots;
  }

  [[nodiscard]] KVFREEZE_HD std::byte* k(std::uint32_t slot) const noexcept {
    return memory.data() + slot / page_slots * page_bytes + slot % page_slots * part_bytes();
  }

  [[nodiscard]] KVFREEZE_HD std::byte* v(std::uint32_t slot) const noexcept {
    return k(slot) + values_offset;
  }
};

namespace detail {

/// @throws InvalidArgument naming the field, if slots overlap, do not fit their page, or cannot be
/// moved 16 bytes at a time
inline void check_pool(char const* function, GranulePool const& pool) {
  auto const reject = [&](char const* field, std::size_t value, std::string const& rule) {
    throw InvalidArgument(std::string(function) + ": GranulePool::" + field + " is " +
                          std::to_string(value) + ", must be " + rule);
  };
  auto const granularity = [&](char const* field, std::size_t value) {
    if (value % 16 != 0) {
      reject(field, value, "a multiple of 16");
    }
  };
  granularity("row_bytes", pool.row_bytes);
  granularity("page_bytes", pool.page_bytes);
  granularity("values_offset", pool.values_offset);
  if (pool.row_bytes == 0) {
    reject("row_bytes", 0, "positive");
  }
  if (pool.granule_rows < 1 || pool.granule_rows > 255) {
    reject("granule_rows", pool.granule_rows, "in [1, 255]");
  }
  if (pool.page_slots == 0 || (pool.page_slots & (pool.page_slots - 1)) != 0) {
    reject("page_slots", pool.page_slots, "a power of two");
  }
  constexpr std::size_t most_bytes = std::size_t{64} << 20U;  // what a launch's grid reaches
  if (pool.granule_bytes() > most_bytes) {
    reject("row_bytes", pool.row_bytes, "so that K and V of a granule have at most 64 MiB");
  }
  std::size_t const part = pool.page_slots * pool.part_bytes();
  if (pool.values_offset < part) {
    reject("values_offset", pool.values_offset,
           "at least " + std::to_string(part) + ", the bytes of a page's K");
  }
  if (pool.page_bytes < pool.values_offset + part) {
    reject("page_bytes", pool.page_bytes,
           "at least " + std::to_string(pool.values_offset + part) + ", the end of a page's V");
  }
  if (pool.memory.size() % pool.page_bytes != 0) {
    reject("memory.size()", pool.memory.size(),
           "a multiple of page_bytes = " + std::to_string(pool.page_bytes));
  }
  auto const address = reinterpret_cast<std::uintptr_t>(pool.memory.data());
  if (address % 16 != 0) {
    reject("memory.data() modulo 16", address % 16, "0");
  }
}

}  // namespace detail

}  // namespace kvfreeze::gpu
