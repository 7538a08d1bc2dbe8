#pragma once

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// Settings of a SpillingTier.
struct SpillingTierOptions {
  std::size_t cache_bytes = std::size_t{1} << 30U;  ///< pinned memory for rows, at most
  std::uint32_t block_granules = 16;                ///< come and go together; a power of two
  std::uint32_t most_misses = 4096;                 ///< blocks that a step can ask for
};

/// @brief What a cache is told of its SpillingTier: the last argument of its constructor.
/// @tparam Lower the lower tier, which the cache takes over
template <class Lower>
struct SpillingTierSettings {
  SpillingTierOptions options;
  Lower lower = Lower();
};

/// A sequence's granules once the rows of the step that begins are appended.
struct SequenceGranules {
  std::uint32_t sequence = 0;
  std::uint32_t granules = 0;
  /// The last so many may be written again, by a step that goes back: they stay in pinned memory.
  std::uint32_t unsettled = 0;
};

/// Granules [begin, end) of some lanes that lie side by side.
struct StoredRange {
  std::uint32_t sequence = 0;
  std::uint32_t first_lane = 0;  ///< of the sequence's
  std::uint32_t lanes = 0;       ///< how many
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// What a SpillingTier did since it was made.
struct SpillCounts {
  std::uint64_t missed = 0;  ///< blocks that steps asked for in vain, as far as it was told
  std::uint64_t loaded = 0;  ///< blocks that came back
  std::uint64_t stored = 0;  ///< blocks written to the lower tier
};

}  // namespace kvfreeze::gpu
