#pragma once

#include <kvfreeze/gpu/memory.cuh>

#include <cstdint>

namespace kvfreeze::gpu {

/// What a selection tells of a whole batch, on the device.
struct MarksReport {
  std::uint32_t selected = 0;  ///< in all segments
  std::uint32_t nans = 0;      ///< scores within segments that are NaN
  /// Segments whose offsets descend, lead beyond the array, or are farther apart than was said.
  /// They are not marked; nor are the marks of segments that they overlap specified.
  std::uint32_t bad_segments = 0;
};

/// @brief Where a selection puts its answer: all on the device.
struct Marks {
  Span<std::uint8_t> selected;      ///< as long as the input: 1 for selected elements, else 0
  Span<std::uint32_t> counts = {};  ///< [segments] how many were selected; or empty
  Span<MarksReport> report = {};    ///< one; or empty, which saves a fill
};

}  // namespace kvfreeze::gpu
