#include <kvfreeze/kvfreeze.hpp>

#include "session_laws.hpp"

using namespace kvfreeze;

TEST_CASE("saved and restored: ExactRecall", "[laws][cache][sessions]") {
  laws::saved_and_restored<presets::ExactRecall<>>(
      {.scheduler = {.missed_mass = 0.1F, .dense_rows = 0}});
}

TEST_CASE("saved and restored: AsrKfEgr", "[laws][cache][sessions]") {
  laws::saved_and_restored<presets::AsrKfEgr<>>(
      {.scheduler = {.softness = 0.5F},
       .trigger = EntropyLadderTrigger({.up = 2, .warmup = 8, .soft_cooldown = 2})});
}

TEST_CASE("saved and restored: AsrKfEgrEager", "[laws][cache][sessions]") {
  laws::saved_and_restored<presets::AsrKfEgrEager<BFloat16>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("saved and restored: StreamingLlm", "[laws][cache][sessions]") {
  laws::saved_and_restored<presets::StreamingLlm<>>({.scheduler = {.capacity = 40}});
}

TEST_CASE("saved and restored: Plain", "[laws][cache][sessions]") {
  laws::restored_goes_on_as_saved<presets::Plain<>>({}, laws::session_limits());
}
