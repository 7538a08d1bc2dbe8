#pragma once

/// @file
/// @brief Words and numbers of error messages.

#include <kvfreeze/tier/request.hpp>

#include <cstdint>
#include <cstdio>
#include <string>

namespace kvfreeze::detail {

/// Nine significant digits: no two floats look alike.
inline std::string describe(double value) {
  char text[32];
  static_cast<void>(std::snprintf(text, sizeof text, "%.9g", value));
  return text;
}

inline std::string describe(TierKey key) {
  return "sequence " + std::to_string(key.sequence) + ", lane " + std::to_string(key.lane) +
         ", granule " + std::to_string(key.granule);
}

/// A checksum, as people compare them.
inline std::string describe_hex(std::uint64_t value) {
  char text[24];
  static_cast<void>(
      std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value)));
  return text;
}

}  // namespace kvfreeze::detail
