#pragma once

#include <kvfreeze/gpu/memory.cuh>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief A run of which the rows above a threshold are listed.
struct ThresholdList {
  std::uint32_t const* values = nullptr;  ///< [rows]
  std::uint8_t const* states = nullptr;   ///< [rows] as in LogitRun, or null: all take part
  std::int32_t rows = 0;
  std::uint32_t threshold = 0;
  std::uint32_t* list = nullptr;  ///< [rows], written as far as there are entries
};

/// Runs described in device memory; functions take any type with such a member.
struct DescribedLists {
  Span<ThresholdList const> lists;

  [[nodiscard]] __device__ ThresholdList list(int i) const { return lists[i]; }
};

}  // namespace kvfreeze::gpu
