#pragma once

#include <cstddef>

namespace kvfreeze::host {

inline constexpr std::size_t page_bytes = 4096;  ///< unit of commitment

constexpr std::size_t round_up(std::size_t value, std::size_t unit) noexcept {
  return (value + unit - 1) / unit * unit;
}

constexpr int ceil_div(int value, int unit) noexcept { return (value + unit - 1) / unit; }

}  // namespace kvfreeze::host
