#pragma once

#include <cstdint>

namespace kvfreeze {

/// What a tier was asked for since it was made or reset (see Statistics).
struct TierCounts {
  /// One way: stores (cache -> tier) or loads (tier -> cache).
  struct Direction {
    std::uint64_t calls = 0;         ///< failed ones included
    std::uint64_t failed_calls = 0;  ///< that threw
    std::uint64_t granules = 0;      ///< of the calls that did not throw
    std::uint64_t bytes = 0;         ///< K and V of those granules
    std::uint64_t max_batch = 0;     ///< granules of the largest call

    friend constexpr bool operator==(Direction const&, Direction const&) = default;
  };

  Direction store;
  Direction load;
  std::uint64_t erase_calls = 0;
  std::uint64_t erased_granules = 0;  ///< asked for, stored or not
  std::uint64_t fork_calls = 0;       ///< failed ones included

  friend constexpr bool operator==(TierCounts const&, TierCounts const&) = default;
};

}  // namespace kvfreeze
