#pragma once

/// @file
/// @brief Objects as bytes: for fingerprints, and for states that are written to files.

#include <kvfreeze/detail/checksum.hpp>
#include <kvfreeze/detail/describe.hpp>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define KVFREEZE_CLEARS_PADDING
#endif
#endif

namespace kvfreeze::detail {

/// Are equal objects equal bytes? Without the compiler's help, what lies between members is not
/// known.
#ifdef KVFREEZE_CLEARS_PADDING
inline constexpr bool clears_padding = true;
#else
inline constexpr bool clears_padding = false;
#endif

/// An object's bytes, those between its members cleared where the compiler can do that.
template <class T>
  requires std::is_trivially_copyable_v<T>
std::array<std::byte, sizeof(T)> object_bytes(T const& object) noexcept {
  T copy = object;
#ifdef KVFREEZE_CLEARS_PADDING
  __builtin_clear_padding(std::addressof(copy));
#endif
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), std::addressof(copy), sizeof(T));
  return bytes;
}

/// @brief What tells a policy's settings from others: "none" if it has no members, "unknown" if
/// they cannot be compared as bytes.
template <class T>
std::string settings_of(T const& policy) {
  if constexpr (std::is_empty_v<T>) {
    return "none";
  } else if constexpr (std::is_trivially_copyable_v<T> && clears_padding) {
    return describe_hex(checksum(object_bytes(policy), sizeof(T)));
  } else {
    return "unknown";
  }
}

/// @brief A type's qualified name without template arguments, which compilers spell differently;
/// empty where the compiler does not tell.
template <class T>
std::string type_name() {
#if defined(__GNUC__)
  std::string_view const function = __PRETTY_FUNCTION__;  // ... [with T = name<...>; ...]
  std::size_t const begin = function.find("T = ");
  if (begin != std::string_view::npos) {
    std::string_view const name = function.substr(begin + 4);
    return std::string(name.substr(0, name.find_first_of("<;]")));
  }
#endif
  return {};
}

}  // namespace kvfreeze::detail

#undef KVFREEZE_CLEARS_PADDING
