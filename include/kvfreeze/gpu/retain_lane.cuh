#pragma once

/// @file
/// @brief A lane on the slow clock: what a selection is made from, and its result.

#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/scheduler/lane_facts.hpp>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief One lane before its slow clock. Arrays are by granule.
///
/// Accesses are of 16 bytes where `scores` lies at a multiple of 16 and `states` and `picks` at
/// multiples of 4 bytes; elsewhere of single elements.
struct RetainLane {
  /// Bits of `picks`.
  static constexpr std::uint8_t candidate = 1;  ///< exact, open, not pinned: the scheduler is asked
  static constexpr std::uint8_t wanted = 2;     ///< and retains it

  LaneFacts facts;                        ///< `granules` says how long the arrays are
  float const* scores = nullptr;          ///< of candidates; null where no selection goes by scores
  std::uint16_t const* stamps = nullptr;  ///< low halves of the steps that wanted a granule last;
                                          ///< null where no selection goes by them
  std::uint8_t const* states = nullptr;   ///< host::GranuleState
  std::uint8_t* picks = nullptr;          ///< written
  std::uint32_t* low_list = nullptr;      ///< written: candidates that are not wanted
  std::int32_t low = 0;                   ///< granules [low, high) may freeze unless pinned
  std::int32_t high = 0;
};

/// Lanes described in device memory; functions take any type with such a member.
struct DescribedRetains {
  Span<RetainLane const> lanes;

  [[nodiscard]] __device__ RetainLane lane(int i) const { return lanes[i]; }
};

/// What became of a lane's selection.
struct RetainResult {
  std::uint32_t candidates = 0;
  std::uint32_t low = 0;  ///< entries of `low_list`

  friend constexpr bool operator==(RetainResult const&, RetainResult const&) = default;
};

}  // namespace kvfreeze::gpu
