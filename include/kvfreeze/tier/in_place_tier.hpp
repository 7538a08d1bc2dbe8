#pragma once

#include <kvfreeze/concepts.hpp>

namespace kvfreeze {

/// @brief Rows stay where they are; freezing only takes them out of attention.
///
/// For unified memory, and to measure a schedule without any copying: saves bandwidth, not memory,
/// and the ledger says so. Holds nothing, so store and load have nothing to do.
/// @complexity O(1)
struct InPlaceTier {
  static constexpr TierKind kind = TierKind::in_place;
  static constexpr bool lossless = true;

  void store(std::span<StoreRequest const>) noexcept {}

  void load(std::span<LoadRequest const>) noexcept {}

  void erase(TierKey, std::uint32_t) noexcept {}

  [[nodiscard]] std::size_t bytes() const noexcept { return 0; }
};

static_assert(TierPolicy<InPlaceTier>);

}  // namespace kvfreeze
