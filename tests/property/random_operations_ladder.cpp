#include <kvfreeze/kvfreeze.hpp>

#include "../laws/ladder_caches.hpp"
#include "random_operations.hpp"

using namespace kvfreeze;
using kvfreeze_test::random_operations;

TEST_CASE("random operations: KvFreeze", "[property][ladder]") {
  random_operations<presets::KvFreeze<>>({.dense = false});
}

TEST_CASE("random operations: KvFreeze as it comes", "[property][ladder]") {
  random_operations<presets::KvFreeze<float>>();
}

TEST_CASE("random operations: all levels, granule 4, entropy ladder", "[property][ladder]") {
  random_operations<laws::FourLevels<BFloat16, 4, Grouping::kv_head, Checksummed<HostTier>,
                                     EntropyLadderTrigger>>({.none = 0.02F,
                                                             .first = 0.1F,
                                                             .second = 0.3F,
                                                             .third = 0.6F,
                                                             .stay = 2,
                                                             .every = 2,
                                                             .dense = false});
}

TEST_CASE("random operations: flat ladder, granule 16, layer lanes", "[property][ladder]") {
  random_operations<laws::FlatLadder<float, 16, Grouping::layer>>(
      {.first = 0.2F, .second = 0.6F, .stay = 1, .every = 1, .dense = false});
}

TEST_CASE("random operations: flat ladder, one level, drift", "[property][ladder]") {
  random_operations<KvFreezeCache<Layout<Half, 1, Grouping::layer, CompactRows<CompactLevel<4, 4>>>,
                                  InstantMassScorer<KeyCodes<4>>, LadderScheduler<>, HostTier,
                                  QueryDriftTrigger>>(
      {.first = 0.5F, .stay = 3, .every = 3, .dense = false});
}

TEST_CASE("random operations: sleeping ladder", "[property][ladder]") {
  random_operations<
      KvFreezeCache<Layout<Half, 1, Grouping::kv_head, CompactRows<CompactLevel<6, 4>>>,
                    InstantMassScorer<NestedKeyCodes<2, 6>>, LadderScheduler<true>, HostTier,
                    EntropyLadderTrigger>>(
      {.none = 0.05F, .first = 0.5F, .stay = 1, .every = 1, .softness = 0.3F, .dense = false});
}

TEST_CASE("random operations: UniformQuantised", "[property][ladder]") {
  random_operations<presets::UniformQuantised<3, BFloat16>>();
}
