#include <kvfreeze/kvfreeze.hpp>

#include "session_laws.hpp"

using namespace kvfreeze;

TEST_CASE("forks: ExactRecall", "[laws][cache][forks]") {
  laws::forks<presets::ExactRecall<>>({.scheduler = {.missed_mass = 0.1F, .dense_rows = 0}});
}

TEST_CASE("forks: AsrKfEgr", "[laws][cache][forks]") {
  laws::forks<presets::AsrKfEgr<>>(
      {.scheduler = {.softness = 0.5F},
       .trigger = EntropyLadderTrigger({.up = 2, .warmup = 8, .soft_cooldown = 2})});
}

TEST_CASE("forks: StreamingLlm", "[laws][cache][forks]") {
  laws::forks<presets::StreamingLlm<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("forks: Plain", "[laws][cache][forks]") { laws::forks<presets::Plain<>>(); }
