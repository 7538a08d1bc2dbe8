#pragma once

/// @file
/// @brief Counts what passes through the global operator new. Linked to every test executable.

#include <cstddef>
#include <cstdint>

namespace kvfreeze_test {

/// Of the whole process, all threads.
struct Allocations {
  std::uint64_t calls = 0;     ///< of operator new, since the start
  std::size_t live_bytes = 0;  ///< asked for and not yet given back
};

Allocations allocations() noexcept;

}  // namespace kvfreeze_test
