#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/detail/describe.hpp>
#include <kvfreeze/error.hpp>

namespace kvfreeze {

/// @brief Rows that are not active are gone: the eviction methods (H2O, SnapKV, StreamingLLM).
/// @complexity O(1)
struct DiscardTier {
  static constexpr TierKind kind = TierKind::discarding;
  static constexpr bool lossless = false;

  void store(std::span<StoreRequest const>) noexcept {}

  /// @throws TierError for any request: nothing was kept
  void load(std::span<LoadRequest const> batch) {
    if (!batch.empty()) {
      throw TierError("kvfreeze: load from a discarding tier (" +
                      detail::describe(batch.front().key) + "): its rows are gone");
    }
  }

  void erase(TierKey, std::uint32_t) noexcept {}

  [[nodiscard]] std::size_t bytes() const noexcept { return 0; }
};

static_assert(TierPolicy<DiscardTier>);

}  // namespace kvfreeze
