#include <kvfreeze/kvfreeze.hpp>

#include "ladder_caches.hpp"
#include "session_laws.hpp"

using namespace kvfreeze;

TEST_CASE("saved and restored: KvFreeze", "[laws][cache][ladder][sessions]") {
  laws::saved_and_restored<presets::KvFreeze<>>({.scheduler = {.dense = false}});
}

TEST_CASE("saved and restored: all levels, granules of 4", "[laws][cache][ladder][sessions]") {
  laws::saved_and_restored<
      laws::FourLevels<BFloat16, 4, Grouping::kv_head, HostTier, EntropyLadderTrigger>>(
      {.scheduler = {.none = 0.02F, .first = 0.1F, .second = 0.3F, .third = 0.6F, .dense = false},
       .trigger = EntropyLadderTrigger({.up = 2, .warmup = 8})});
}

TEST_CASE("saved and restored: sleeping ladder, layer lanes", "[laws][cache][ladder][sessions]") {
  laws::saved_and_restored<KvFreezeCache<
      Layout<Half, 1, Grouping::layer, CompactRows<CompactLevel<6, 4>>>,
      InstantMassScorer<NestedKeyCodes<2, 6>>, LadderScheduler<true>, HostTier, QueryDriftTrigger>>(
      {.scheduler = {
           .none = 0.05F, .first = 0.5F, .stay = 1, .every = 1, .softness = 0.3F, .dense = false}});
}

TEST_CASE("saved and restored: UniformQuantised", "[laws][cache][ladder][sessions]") {
  laws::saved_and_restored<presets::UniformQuantised<4>>();
}
