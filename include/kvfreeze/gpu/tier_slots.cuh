#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/tier/request.hpp>

#include <cstddef>

namespace kvfreeze::gpu {

/// @brief Where granules lie in mapped host memory, as kernels see it: a slab for each sequence,
/// [lane][granule][K, V]. A view; owns nothing.
struct TierSlots {
  Span<std::byte* const> slabs;  ///< [sequences], in device memory; null where there is none
  TierGeometry geometry;

  [[nodiscard]] KVFREEZE_HD std::size_t granule_bytes() const noexcept {
    return 2 * geometry.part_bytes;
  }

  /// @brief K of a granule; its V lies behind. Only on the device: the table is there.
  /// @pre the sequence has a slab
  [[nodiscard]] __device__ std::byte* address(TierKey key) const {
    return slabs[key.sequence] +
           (static_cast<std::size_t>(key.lane) * geometry.granules + key.granule) * granule_bytes();
  }
};

}  // namespace kvfreeze::gpu
