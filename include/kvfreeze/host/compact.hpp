#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/host/kernels/compress.hpp>
#include <kvfreeze/host/kernels/segments.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

namespace kvfreeze::host {

/// @brief Stable stream compaction: the values whose flag is not zero, in order, to `out`.
/// @tparam T trivially copyable; four bytes are the fast case
/// @param out holds the flagged values; may begin where `values` begins. What lies behind them is
/// left alone.
/// @return how many were written
/// @throws InvalidArgument if `flags` and `values` differ in size or `out` is too small; nothing
/// was written then
/// @complexity O(values): one pass over the flags, one over both
template <class T>
  requires std::is_trivially_copyable_v<T>
std::size_t compact(std::span<std::uint8_t const> flags, std::span<T const> values,
                    std::span<T> out) {
  detail::check_size("compact", "flags", flags.size(), values.size());
  std::size_t const count = count_flags(flags.data(), flags.size());
  if (out.size() < count) {
    throw InvalidArgument("compact: out has " + std::to_string(out.size()) + " elements, but " +
                          std::to_string(count) + " are flagged");
  }
  return compress(flags.data(), values.data(), values.size(), out.data());
}

}  // namespace kvfreeze::host
