#pragma once

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Rows of one granule that are to move between a pool on the device and a tier on the host.
///
/// Kernels write lists of these; the movers carry them out. A job without rows moves nothing.
struct alignas(16) MoveJob {
  std::uint32_t slot = 0;      ///< of the pool
  std::uint32_t lane = 0;      ///< of the sequence
  std::uint32_t granule = 0;   ///< of the lane
  std::uint16_t sequence = 0;  ///< `max_sequences` is at most 65536
  std::uint8_t first_row = 0;  ///< within the granule
  std::uint8_t rows = 0;       ///< from there on; GranulePool::granule_rows for a whole granule
};

static_assert(sizeof(MoveJob) == 16);  // one load

}  // namespace kvfreeze::gpu
