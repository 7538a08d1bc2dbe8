#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

namespace kvfreeze {

/// @brief One form in which a row may stay resident without being exact.
/// @tparam KeyBits of an element of K, codes of the scorer's digest: its own bits, or what
///   NestedKeyCodes holds below its screen
/// @tparam ValueBits of an element of V: 2, 4 or 8, with one scale for each row and KV head
template <int KeyBits, int ValueBits>
struct CompactLevel {
  static_assert(ValueBits == 2 || ValueBits == 4 || ValueBits == 8,
                "kvfreeze: V codes have 2, 4 or 8 bits");
  static constexpr int key_bits = KeyBits;
  static constexpr int value_bits = ValueBits;
};

/// @brief The compact levels of a layout, coarsest first; none: rows are exact or not resident.
/// @tparam Levels at most three CompactLevel, bits not falling
template <class... Levels>
struct CompactRows {
  static constexpr int levels = sizeof...(Levels);
  static constexpr std::size_t slots = levels == 0 ? 1 : levels;  ///< of the arrays
  static constexpr std::array<int, slots> key_bits{Levels::key_bits...};
  static constexpr std::array<int, slots> value_bits{Levels::value_bits...};

  static_assert(levels <= 3, "kvfreeze: there are at most three compact levels");
  static_assert(
      [] {
        for (std::size_t i = 1; i < slots; ++i) {
          if (key_bits[i] < key_bits[i - 1] || value_bits[i] < value_bits[i - 1]) {
            return false;
          }
        }
        return true;
      }(),
      "kvfreeze: the levels of CompactRows must not lose bits");
};

/// The levels of presets::KvFreeze: keys of 3 or 5 bits, values of 2, 4 or 8.
using LadderRows = CompactRows<CompactLevel<3, 2>, CompactLevel<5, 4>, CompactLevel<5, 8>>;

}  // namespace kvfreeze
