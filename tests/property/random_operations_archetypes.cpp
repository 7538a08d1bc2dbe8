#include "../support/archetypes.hpp"
#include "random_operations.hpp"

using namespace kvfreeze;
using kvfreeze_test::random_operations;

TEST_CASE("random operations: policies with nothing optional", "[property]") {
  random_operations<
      KvFreezeCache<Layout<Half>, archetypes::MinimalScorer, archetypes::MinimalScheduler,
                    archetypes::MinimalTier, archetypes::MinimalTrigger>>();
}

TEST_CASE("random operations: policies with everything optional", "[property]") {
  random_operations<
      KvFreezeCache<Layout<float, 4>, archetypes::StatefulScorer, archetypes::WholeScheduler,
                    archetypes::MoveOnlyTier, archetypes::StatefulTrigger>>();
}
