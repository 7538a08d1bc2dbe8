#pragma once

/// @file
/// @brief A lane whose frozen granules are recalled: what a selection is made from, and its result.

#include <kvfreeze/gpu/histogram.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/scheduler/lane_facts.hpp>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief One lane before its recall. Arrays are by granule.
///
/// Accesses are of 16 bytes where `scores` lies at a multiple of 16 and `states` and `wanted` at
/// multiples of 4 bytes; elsewhere of single elements.
struct RecallLane {
  static constexpr std::uint32_t unlimited = 0xFFFFFFFFU;

  LaneFacts facts;                        ///< `granules` says how long the arrays are
  std::uint32_t const* scores = nullptr;  ///< fixed point; null: nothing is known of what is frozen
  std::uint8_t* states = nullptr;         ///< host::GranuleState; `carried` may be set
  std::uint8_t* wanted = nullptr;         ///< written: 1 for granules that the step wants exact
  std::uint32_t* thaws = nullptr;         ///< written: granules to thaw, most urgent first
  std::int32_t low = 0;                   ///< granules [low, high) may freeze unless pinned
  std::int32_t high = 0;
  std::uint32_t affordable = unlimited;  ///< granules that the transfer budget pays for

  /// Those that recall asks: in histograms of log_histograms_async().
  [[nodiscard]] __device__ ScoredRows rows() const {
    return {scores, states, low, high, host::GranuleState::not_askable};
  }
};

/// Lanes described in device memory; functions take any type with these members.
struct DescribedRecalls {
  Span<RecallLane const> lanes;

  [[nodiscard]] __device__ RecallLane lane(int i) const { return lanes[i]; }

  [[nodiscard]] __device__ ScoredRows rows(int i) const { return lanes[i].rows(); }
};

/// @brief What became of a lane's selection.
struct RecallResult {
  std::uint32_t wanted = 0;    ///< open granules that the step wants exact
  std::uint32_t thaws = 0;     ///< entries of the lane's list
  std::uint32_t deferred = 0;  ///< granules that the cap or the transfer budget turned away
  /// Score from which an exact granule counts as wanted too (hysteresis); the largest integer
  /// where `wanted` alone says so.
  std::uint32_t keep_from = 0xFFFFFFFFU;
  std::uint32_t over_cap = 0;  ///< 1: the byte cap decided what is exact
};

}  // namespace kvfreeze::gpu
