// Every law, for compositions after published systems: one for each kind of evidence, shares,
// digest and tier that other tests do not have.

#include <kvfreeze/published_presets.hpp>

#include "cache_laws.hpp"

using namespace kvfreeze;

TEST_CASE("cache laws: H2o", "[laws][cache]") {
  laws::cache<presets::H2o<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: Tova", "[laws][cache]") {
  laws::cache<presets::Tova<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: KeyDiff", "[laws][cache]") {
  laws::cache<presets::KeyDiff<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: LagKv", "[laws][cache]") {
  laws::cache<presets::LagKv<>>({.scheduler = {.capacity = 60}});
}

TEST_CASE("cache laws: whole pages by their rows, with a tier", "[laws][cache]") {
  laws::cache<KvFreezeCache<Layout<Half, 16>, ValueKeyRatioScorer<>, OverCapacityScheduler,
                            HostTier, NeverTrigger>>({.scheduler = {.capacity = 4}});
}

TEST_CASE("cache laws: AdaKv", "[laws][cache]") {
  laws::cache<presets::AdaKv<>>({.scheduler = {.granules = 40, .shrink = 0.75F}});
}

TEST_CASE("cache laws: EntropyOracle", "[laws][cache]") {
  laws::cache<presets::EntropyOracle<>>({.scheduler = {.recalled = 1.0F, .fraction = 0.3F}});
}

TEST_CASE("cache laws: ArkVale", "[laws][cache]") {
  laws::cache<presets::ArkVale<>>({.scheduler = {.spared = 1, .fraction = 0.4F}});
}

TEST_CASE("cache laws: PartialRecall", "[laws][cache]") {
  laws::cache<presets::PartialRecall<>>({.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("cache laws: an eviction rule with recall and shares by entropy", "[laws][cache]") {
  laws::cache<presets::Recalled<WindowMassScorer<KeyCodes<2>>, EntropyShares>>(
      {.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("cache laws: Arkv", "[laws][cache]") {
  laws::cache<presets::Arkv<>>({.scheduler = {.kept = 0.7F}});
}

TEST_CASE("cache laws: HeadBits", "[laws][cache]") { laws::cache<presets::HeadBits<>>(); }
