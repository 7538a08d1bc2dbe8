#pragma once

#include <kvfreeze/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace kvfreeze::host::detail {

/// Segment s of a batch is [offsets[s], offsets[s + 1]).
/// @throws InvalidArgument unless offsets ascend and end at most at `size`
inline void check_segments(char const* function, std::span<std::uint32_t const> offsets,
                           std::size_t size) {
  for (std::size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] < offsets[i - 1]) {
      throw InvalidArgument(std::string(function) + ": offsets[" + std::to_string(i) +
                            "] = " + std::to_string(offsets[i]) + " is below its predecessor " +
                            std::to_string(offsets[i - 1]));
    }
  }
  if (!offsets.empty() && offsets.back() > size) {
    throw InvalidArgument(std::string(function) + ": the last offset is " +
                          std::to_string(offsets.back()) + " but there are " +
                          std::to_string(size) + " elements");
  }
}

/// @throws InvalidArgument unless the sizes are equal
inline void check_size(char const* function, char const* argument, std::size_t size,
                       std::size_t expected) {
  if (size != expected) {
    throw InvalidArgument(std::string(function) + ": " + argument + " has " + std::to_string(size) +
                          " elements, expected " + std::to_string(expected));
  }
}

}  // namespace kvfreeze::host::detail
