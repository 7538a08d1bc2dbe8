#pragma once

#include <kvfreeze/scheduler/lane_shares.hpp>

#include "../../caches.hpp"

#include <vector>

namespace llama {

/// @brief The shares that a calibration of entropies gives the lanes.
/// @throws UserError if there is none, or it is not for this model
kvfreeze::TableShares<> entropy_shares(CacheSettings const& settings);

/// H / mean H of each lane, at most 15, and the mean.
struct MeasuredEntropies {
  kvfreeze::TableShares<> relative;
  float mean = 0.0F;  ///< bits
};

/// @brief What a calibration of entropies says.
/// @throws UserError if there is none, or it is not for this model
MeasuredEntropies relative_entropies(CacheSettings const& settings);

/// @brief The parts of full precision that a calibration of OQ scores gives the lanes; empty where
/// there is none, or each prompt is measured.
/// @throws UserError if it is not for this model
std::vector<float> oq_shares(CacheSettings const& settings);

}  // namespace llama
