#include <kvfreeze/kvfreeze.hpp>

#include "ladder_caches.hpp"
#include "limit_laws.hpp"

using namespace kvfreeze;

TEST_CASE("the cap may change: ExactRecall", "[laws][cache][limit]") {
  laws::limit<presets::ExactRecall<>>({.scheduler = {.missed_mass = 0.1F, .dense_rows = 0}});
}

TEST_CASE("the cap may change: AsrKfEgr", "[laws][cache][limit]") {
  laws::limit<presets::AsrKfEgr<>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("the cap may change: AsrKfEgrEager", "[laws][cache][limit]") {
  laws::limit<presets::AsrKfEgrEager<>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("the cap may change: StreamingLlm", "[laws][cache][limit]") {
  laws::limit<presets::StreamingLlm<>>();
}

TEST_CASE("the cap may change: Plain", "[laws][cache][limit]") { laws::limit<presets::Plain<>>(); }

TEST_CASE("the cap may change: KvFreeze", "[laws][cache][ladder][limit]") {
  laws::limit<presets::KvFreeze<>>({.scheduler = {.dense = false}});
  laws::limit<presets::KvFreeze<float>>();
}

TEST_CASE("the cap may change: all levels, granules of 4", "[laws][cache][ladder][limit]") {
  laws::limit<laws::FourLevels<BFloat16, 4>>(
      {.scheduler = {.none = 0.02F, .first = 0.1F, .second = 0.3F, .third = 0.6F, .dense = false}});
}

TEST_CASE("the cap may change: UniformQuantised", "[laws][cache][ladder][limit]") {
  laws::limit<presets::UniformQuantised<4>>();
}

TEST_CASE("a cap leaves the rows of the highest scores", "[laws][cache][limit]") {
  laws::the_highest_scores_stay<KvFreezeCache<Layout<Half>, CumulativeMassScorer<>,
                                              OverCapacityScheduler, DiscardTier, NeverTrigger>>(
      {}, 2048, 0, 0.4);
  laws::the_highest_scores_stay<KvFreezeCache<Layout<float, 4>, CumulativeMassScorer<KeyCodes<4>>,
                                              OverCapacityScheduler, HostTier, NeverTrigger>>(
      {}, 700, 20, 0.5);
  laws::the_highest_scores_stay<KvFreezeCache<Layout<Half>, WindowMassScorer<>,
                                              FixedBudgetScheduler, DiscardTier, NeverTrigger>>(
      {.scheduler = {.fraction = 1.0F}}, 2048, 5, 0.3);
  laws::the_highest_scores_stay<KvFreezeCache<Layout<BFloat16, 1, Grouping::layer>, KeyNormScorer<>,
                                              FixedBudgetScheduler, HostTier, NeverTrigger>>(
      {.scheduler = {.fraction = 1.0F}}, 700, 3, 0.5);
  laws::the_highest_scores_stay<presets::StreamingLlm<>>({}, 2048, 4, 0.25);
}

TEST_CASE("a new cap survives every fault", "[laws][cache][limit][faults]") {
  using Tier = FaultInjecting<HostTier>;
  laws::limit_survives_every_fault<presets::ExactRecall<Half, Tier>>({});
  laws::limit_survives_every_fault<presets::KvFreeze<Half, Tier>>({});
  laws::limit_survives_every_fault<
      KvFreezeCache<Layout<Half, 4, Grouping::layer>, CumulativeMassScorer<>, OverCapacityScheduler,
                    FaultInjecting<Checksummed<HostTier>>, NeverTrigger>>({});
}
