#pragma once

/// @file
/// @brief What tests of ladders on both sides have in common.

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>

namespace kvfreeze::gpu::test {

using ScreenedMass = InstantMassScorer<NestedKeyCodes<1, 5>>;
using FlatMass = InstantMassScorer<KeyCodes<4>>;

/// A ladder that is on from the first row, and whose granules soon sleep.
inline LadderScheduler<true> sleepy() {
  LadderScheduler<true> scheduler;
  scheduler.none = 0.1F;
  scheduler.first = 0.2F;
  scheduler.softness = 0.5F;
  scheduler.dense = false;
  return scheduler;
}

}  // namespace kvfreeze::gpu::test
