#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"
#include "ladder_caches.hpp"

using namespace kvfreeze;

TEST_CASE("threads decide nothing: KvFreeze", "[laws][cache][ladder][threads]") {
  laws::the_same_answer_however_it_is_driven<presets::KvFreeze<>>(
      {.scheduler = {.stay = 2, .every = 1, .dense = false}}, true);
  laws::the_same_answer_however_it_is_driven<laws::FlatLadder<float, 4>>(
      {.scheduler = {.second = 0.7F, .stay = 1, .every = 1, .dense = false}}, true);
}
