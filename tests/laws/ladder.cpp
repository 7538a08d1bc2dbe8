#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"
#include "ladder_caches.hpp"

using namespace kvfreeze;

namespace {

/// The laws, and a story over several groups.
template <class Cache>
void ladder(laws::Settings<Cache> const& settings = {}) {
  laws::cache<Cache>(settings);
  auto cache = laws::make_cache<Cache>(settings);
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 2);
  laws::tell_a_longer_story(sequence);
  sequence.thaw_and_compare(1);
  sequence.thaw_and_compare(23);
}

}  // namespace

TEST_CASE("cache laws: KvFreeze", "[laws][cache][ladder]") {
  ladder<presets::KvFreeze<>>({.scheduler = {.dense = false}});
}

TEST_CASE("cache laws: ladder of all levels, granules of 4", "[laws][cache][ladder]") {
  ladder<laws::FourLevels<BFloat16, 4, Grouping::kv_head>>(
      {.scheduler = {.none = 0.02F, .first = 0.1F, .second = 0.3F, .third = 0.6F, .dense = false}});
}

TEST_CASE("cache laws: flat ladder, granules of 16, layer lanes", "[laws][cache][ladder]") {
  ladder<laws::FlatLadder<float, 16, Grouping::layer>>(
      {.scheduler = {.first = 0.2F, .second = 0.7F, .stay = 1, .every = 1, .dense = false}});
}

TEST_CASE("cache laws: UniformQuantised", "[laws][cache][ladder]") {
  ladder<presets::UniformQuantised<4>>();
}
