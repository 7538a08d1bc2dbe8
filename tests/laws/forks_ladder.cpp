#include <kvfreeze/kvfreeze.hpp>

#include "ladder_caches.hpp"
#include "session_laws.hpp"

using namespace kvfreeze;

TEST_CASE("forks: KvFreeze", "[laws][cache][ladder][forks]") {
  laws::forks<presets::KvFreeze<>>({.scheduler = {.dense = false}});
}

TEST_CASE("forks: all levels, granules of 4", "[laws][cache][ladder][forks]") {
  laws::forks<laws::FourLevels<BFloat16, 4, Grouping::kv_head, HostTier, EntropyLadderTrigger>>(
      {.scheduler = {.none = 0.02F, .first = 0.1F, .second = 0.3F, .third = 0.6F, .dense = false},
       .trigger = EntropyLadderTrigger({.up = 2, .warmup = 8})});
}

TEST_CASE("forks: UniformQuantised", "[laws][cache][ladder][forks]") {
  laws::forks<presets::UniformQuantised<4>>();
}
