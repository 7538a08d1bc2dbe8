#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/host/kernels/simd.hpp>

#include <cstddef>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Where the codes of rows lie: blocks of 16 rows.
struct CodeRows {
  std::byte const* base = nullptr;
  std::size_t block_bytes = 0;  ///< from block to block
  std::size_t row_bytes = 0;    ///< from row to row within a block

  [[nodiscard]] KVFREEZE_HD std::byte const* row(int i) const noexcept {
    return base + static_cast<std::size_t>(i / 16) * block_bytes +
           static_cast<std::size_t>(i % 16) * row_bytes;
  }
};

/// Asks for bytes that will be read soon; addresses that are not there do no harm.
[[gnu::always_inline]] inline void prefetch_bytes(std::byte const* p, std::size_t bytes) noexcept {
  for (std::size_t i = 0; i < bytes; i += 64) {
    prefetch(p + i);
  }
  end_prefetch();
}

/// Copies bytes that are a multiple of 16, without the call that a copy of unknown size is.
[[gnu::always_inline]] inline void copy_codes(std::byte* to, std::byte const* from,
                                              std::size_t bytes) noexcept {
  for (std::size_t i = 0; i < bytes; i += 16) {
    std::memcpy(to + i, from + i, 16);
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
