#pragma once

#include <kvfreeze/scheduler/entropy_calibration.hpp>
#include <kvfreeze/scheduler/lane_shares.hpp>

#include "../../caches.hpp"

namespace llama {

/// @brief The shares that a calibration file gives the lanes.
/// @throws UserError if there is none, or it is not for this model
kvfreeze::TableShares<> calibrated_shares(CacheSettings const& settings);

}  // namespace llama
