#pragma once

#include <array>
#include <cstddef>

namespace kvfreeze {

/// @brief The forms in which a row may stay resident without being exact: its key as the digest
/// codes it, its value in so many bits an element, one level for each, coarsest first.
///
/// A level's V has one scale for each row and KV head (`host/kernels/value_codes.hpp`). A layout
/// without levels holds rows exact or not at all.
/// @tparam ValueBits of the levels, ascending: 2, 4 or 8
template <int... ValueBits>
struct CompactRows {
  static constexpr int levels = sizeof...(ValueBits);

  /// Bits of V at each level; one unused element where there is no level.
  static constexpr std::array<int, levels == 0 ? 1 : levels> value_bits{ValueBits...};

  static_assert(((ValueBits == 2 || ValueBits == 4 || ValueBits == 8) && ...),
                "kvfreeze: V codes have 2, 4 or 8 bits");
  static_assert(
      [] {
        for (std::size_t i = 1; i < static_cast<std::size_t>(levels); ++i) {
          if (value_bits[i] <= value_bits[i - 1]) {
            return false;
          }
        }
        return true;
      }(),
      "kvfreeze: the levels of CompactRows must ascend");
};

}  // namespace kvfreeze
