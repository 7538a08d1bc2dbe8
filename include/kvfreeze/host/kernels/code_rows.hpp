#pragma once

#include <kvfreeze/host/kernels/isa.hpp>

#include <cstddef>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Where the codes of rows lie: blocks of 16 rows.
struct CodeRows {
  std::byte const* base = nullptr;
  std::size_t block_bytes = 0;  ///< from block to block
  std::size_t row_bytes = 0;    ///< from row to row within a block

  [[nodiscard]] std::byte const* row(int i) const noexcept {
    return base + static_cast<std::size_t>(i / 16) * block_bytes +
           static_cast<std::size_t>(i % 16) * row_bytes;
  }
};

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
