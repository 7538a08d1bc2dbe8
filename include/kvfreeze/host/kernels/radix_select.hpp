#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host::detail {

/// Which elements are wanted: keys above `key`, and of those equal to it the first `ties`.
struct RadixCutoff {
  std::uint32_t key = 0;
  std::uint64_t ties = 0;
};

/// Orders like the float, as unsigned; both zeros are one key.
inline std::uint32_t ordered_key(float x) noexcept {
  auto const bits = std::bit_cast<std::uint32_t>(x + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// @brief The shortest run of elements from the highest down whose weights sum to at least `goal`.
///
/// Three histogram passes over 11, 11 and 10 bits; no memory but the 16 KB histogram.
/// @param key key(i) of element i
/// @param weight weight(key), the same for equal keys
/// @pre 0 < goal <= sum of all weights
template <class Key, class Weight>
RadixCutoff radix_select(std::size_t n, std::uint64_t goal, Key const& key,
                         Weight const& weight) noexcept {
  constexpr std::array<int, 3> shifts = {21, 10, 0};
  std::array<std::uint64_t, 2048> table;
  std::uint32_t prefix = 0;
  int known = 32;  // bits below this one are still open
  std::uint64_t left = goal;
  for (int const shift : shifts) {
    std::size_t const cells = std::size_t{1} << (known - shift);
    std::fill_n(table.begin(), cells, 0U);
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t const k = key(i);
      if (known == 32 || (k >> known) == prefix) {
        table[(k >> shift) & (cells - 1)] += weight(k);
      }
    }
    std::size_t cell = cells - 1;
    while (cell != 0 && table[cell] < left) {
      left -= table[cell];
      --cell;
    }
    prefix = static_cast<std::uint32_t>((std::size_t{prefix} << (known - shift)) | cell);
    known = shift;
  }
  std::uint64_t const each = weight(prefix);
  return {prefix, each == 0 ? 0 : (left + each - 1) / each};
}

/// selected[i] = 1 for the elements that a cutoff wants, else 0; returns how many.
template <class Key>
std::size_t apply_radix(RadixCutoff cutoff, std::size_t n, Key const& key,
                        std::uint8_t* selected) noexcept {
  std::uint64_t ties = cutoff.ties;
  std::size_t total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t const k = key(i);
    bool const tied = k == cutoff.key && ties != 0;
    bool const want = tied || k > cutoff.key;
    ties -= tied ? 1U : 0U;
    selected[i] = static_cast<std::uint8_t>(want);
    total += want ? 1U : 0U;
  }
  return total;
}

}  // namespace kvfreeze::host::detail
