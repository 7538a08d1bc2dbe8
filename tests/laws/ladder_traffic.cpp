#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"
#include "ladder_caches.hpp"

using namespace kvfreeze;

namespace {

using Tier = Statistics<HostTier>;

}  // namespace

TEST_CASE("traffic is bounded: KvFreeze", "[laws][cache][ladder][traffic]") {
  laws::traffic_is_bounded<presets::KvFreeze<Half, Tier>>(
      {.scheduler = {.stay = 1, .every = 1, .dense = false}});
}

TEST_CASE("traffic is bounded: all levels, granules of 4", "[laws][cache][ladder][traffic]") {
  laws::traffic_is_bounded<laws::FourLevels<BFloat16, 4, Grouping::layer, Tier>>(
      {.scheduler = {.none = 0.02F,
                     .first = 0.1F,
                     .second = 0.3F,
                     .third = 0.6F,
                     .stay = 1,
                     .every = 1,
                     .dense = false}});
}

TEST_CASE("traffic is bounded: UniformQuantised", "[laws][cache][ladder][traffic]") {
  laws::traffic_is_bounded<presets::UniformQuantised<4, Half, Tier>>({});
}

TEST_CASE("what rose to exact stays", "[laws][cache][ladder][traffic]") {
  laws::what_was_thawed_stays<laws::FlatLadder<>>(
      {.scheduler =
           {.none = 0.02F, .first = 0.1F, .second = 0.4F, .stay = 5, .every = 1, .dense = false}},
      5);
}

// Levels as fine as these leave attention what it was, if no row is absent.
TEST_CASE("fine codes leave attention nearly what it was", "[laws][cache][ladder]") {
  auto cache = laws::make_cache<laws::FineLadder<float>>(
      {.scheduler = {.none = 0.0F, .first = 1.0F, .stay = 1, .every = 1, .dense = false}});
  kvfreeze_test::CheckedSequence<laws::FineLadder<float>> sequence(cache, 12);
  sequence.attend(200);
  for (int i = 0; i < 100; ++i) {
    auto const report = sequence.attend(1);
    REQUIRE(report.missed_mass == 0.0F);
    REQUIRE((i < 10 || report.rows.compact > 700));
  }
  CHECK(sequence.mean_error() < 0.02);
}
