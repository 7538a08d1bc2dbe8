// Every law, for the compositions after published systems.

#include <kvfreeze/published_presets.hpp>

#include "cache_laws.hpp"

using namespace kvfreeze;

TEST_CASE("cache laws: H2o", "[laws][cache]") {
  laws::cache<presets::H2o<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: Tova", "[laws][cache]") {
  laws::cache<presets::Tova<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: SnapKv", "[laws][cache]") {
  laws::cache<presets::SnapKv<>>({.scheduler = {.capacity = 40, .shrink = 0.75F}});
}

TEST_CASE("cache laws: PyramidKv", "[laws][cache]") {
  laws::cache<presets::PyramidKv<>>({.scheduler = {.granules = 40}});
}

TEST_CASE("cache laws: KeyDiff", "[laws][cache]") {
  laws::cache<presets::KeyDiff<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: ExpectedAttention", "[laws][cache]") {
  laws::cache<presets::ExpectedAttention<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: PagedEviction", "[laws][cache]") {
  laws::cache<presets::PagedEviction<>>({.scheduler = {.capacity = 4}});
}

TEST_CASE("cache laws: EntropyOnline", "[laws][cache]") {
  laws::cache<presets::EntropyOnline<>>({.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("cache laws: EntropyOracle", "[laws][cache]") {
  laws::cache<presets::EntropyOracle<>>({.scheduler = {.recalled = 1.0F, .fraction = 0.3F}});
}

TEST_CASE("cache laws: Quest", "[laws][cache]") {
  laws::cache<presets::Quest<>>({.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("cache laws: ArkVale", "[laws][cache]") {
  laws::cache<presets::ArkVale<>>({.scheduler = {.fraction = 0.4F}});
}

TEST_CASE("cache laws: PartialRecall", "[laws][cache]") {
  laws::cache<presets::PartialRecall<>>({.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("cache laws: an eviction rule with recall", "[laws][cache]") {
  laws::cache<presets::Recalled<WindowMassScorer<KeyCodes<2>>, EntropyShares>>(
      {.scheduler = {.fraction = 0.3F}});
}
