#include <kvfreeze/presets.hpp>

#include "random_operations.hpp"

using namespace kvfreeze;
using kvfreeze_test::random_operations;

TEST_CASE("random operations: ExactRecall", "[property]") {
  random_operations<presets::ExactRecall<>>({.missed_mass = 0.05F, .stay = 3, .dense_rows = 0});
}

TEST_CASE("random operations: ExactRecall as it comes", "[property]") {
  random_operations<presets::ExactRecall<>>();
}

TEST_CASE("random operations: AsrKfEgr", "[property]") {
  random_operations<presets::AsrKfEgr<>>({.softness = 0.5F});
}

TEST_CASE("random operations: AsrKfEgrEager", "[property]") {
  random_operations<presets::AsrKfEgrEager<>>({.softness = 0.5F});
}

TEST_CASE("random operations: StreamingLlm", "[property]") {
  random_operations<presets::StreamingLlm<>>({.capacity = 50});
}

TEST_CASE("random operations: Plain", "[property]") { random_operations<presets::Plain<>>(); }
