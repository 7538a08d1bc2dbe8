#pragma once

/// @file
/// @brief What digest primitives ask of their arguments.

#include <kvfreeze/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu::detail {

/// Shared memory that every device gives a block unasked.
inline constexpr std::size_t default_shared_bytes = 48 * 1024;

/// @throws InvalidArgument unless dim is a multiple of 8 in [8, 512]
inline void check_dim(char const* function, int dim) {
  if (dim < 8 || dim > 512 || dim % 8 != 0) {
    throw InvalidArgument(std::string(function) + ": dim is " + std::to_string(dim) +
                          ", must be a multiple of 8 in [8, 512]");
  }
}

/// @throws InvalidArgument unless heads are in [1, 64]
inline void check_heads(char const* function, int heads) {
  if (heads < 1 || heads > 64) {
    throw InvalidArgument(std::string(function) + ": heads is " + std::to_string(heads) +
                          ", must be in [1, 64]");
  }
}

/// @throws InvalidArgument unless an address is a multiple of 16
inline void check_aligned(char const* function, char const* argument, void const* address) {
  auto const past = reinterpret_cast<std::uintptr_t>(address) % 16;
  if (past != 0) {
    throw InvalidArgument(std::string(function) + ": " + argument + " begins " +
                          std::to_string(past) + " bytes past a multiple of 16");
  }
}

}  // namespace kvfreeze::gpu::detail
