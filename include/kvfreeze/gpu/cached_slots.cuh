#pragma once

#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/tier/request.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvfreeze::gpu {

/// @brief Where those granules lie in mapped host memory that a SpillingTier has there now. A view;
/// owns nothing.
///
/// Granules of a lane come and go in blocks of 2^block_shift, [granule][K, V].
struct CachedSlots {
  static constexpr std::uint32_t absent = std::numeric_limits<std::uint32_t>::max();

  /// What the device knows of a block.
  struct Entry {
    std::uint32_t place = absent;  ///< block of the memory
    std::uint32_t stamp = 0;       ///< step that needed it last, or missed it
  };

  Span<Entry> blocks;             ///< [sequence][lane][lane_blocks], in device memory
  std::byte* memory = nullptr;    ///< as the device addresses it
  std::uint32_t lane_blocks = 0;  ///< blocks of a lane
  std::uint32_t block_shift = 0;  ///< log2 of a block's granules
  TierGeometry geometry;

  /// A lane's number among those of all sequences.
  [[nodiscard]] __device__ std::size_t lane(TierKey key) const {
    return std::size_t{key.sequence} * geometry.lanes + key.lane;
  }

  /// Number of a granule's block.
  /// @param lane among those of all sequences
  [[nodiscard]] __device__ std::size_t block(std::size_t lane, std::uint32_t granule) const {
    return lane * lane_blocks + (granule >> block_shift);
  }

  [[nodiscard]] __device__ std::byte* address(TierKey key) const {
    return address(lane(key), key.granule);
  }

  /// K of a granule, its V behind it; null if it is not there. Changes between steps only.
  /// @param lane among those of all sequences
  [[nodiscard]] __device__ std::byte* address(std::size_t lane, std::uint32_t granule) const {
    std::uint32_t const place = blocks[block(lane, granule)].place;
    std::uint32_t const within = granule & ((1U << block_shift) - 1U);
    return place == absent
               ? nullptr
               : memory + ((std::size_t{place} << block_shift) + within) * 2 * geometry.part_bytes;
  }
};

}  // namespace kvfreeze::gpu
