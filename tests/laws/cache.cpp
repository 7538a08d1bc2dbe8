#include <kvfreeze/presets.hpp>

#include "cache_laws.hpp"

using namespace kvfreeze;

TEST_CASE("cache laws: ExactRecall", "[laws][cache]") {
  laws::cache<presets::ExactRecall<>>({.scheduler = {.missed_mass = 0.1F, .dense_rows = 0}});
}

TEST_CASE("cache laws: AsrKfEgr", "[laws][cache]") {
  laws::cache<presets::AsrKfEgr<>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("cache laws: AsrKfEgrEager", "[laws][cache]") {
  laws::cache<presets::AsrKfEgrEager<>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("cache laws: StreamingLlm", "[laws][cache]") {
  laws::cache<presets::StreamingLlm<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("cache laws: Plain", "[laws][cache]") { laws::cache<presets::Plain<>>(); }
