#include <kvfreeze/kvfreeze.hpp>

#include "cache_fault_laws.hpp"
#include "ladder_caches.hpp"

using namespace kvfreeze;

using laws::faults;
using Tier = laws::FaultyTier;

TEST_CASE("every fault is survived: KvFreeze", "[laws][cache][ladder][faults]") {
  faults<presets::KvFreeze<Half, Tier>>({.scheduler = {.stay = 2, .every = 2, .dense = false}});
}

TEST_CASE("every fault is survived: all levels, granules of 4", "[laws][cache][ladder][faults]") {
  faults<laws::FourLevels<float, 4, Grouping::layer, Tier, NeverTrigger>>(
      {.scheduler = {.none = 0.05F,
                     .first = 0.2F,
                     .second = 0.4F,
                     .third = 0.7F,
                     .stay = 1,
                     .every = 1,
                     .dense = false}});
}

TEST_CASE("every fault is survived: UniformQuantised", "[laws][cache][ladder][faults]") {
  faults<presets::UniformQuantised<2, BFloat16, Tier>>();
}
