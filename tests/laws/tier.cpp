#include <kvfreeze/tier/checksummed.hpp>
#include <kvfreeze/tier/discard_tier.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/tier/statistics.hpp>

#include "../support/archetypes.hpp"
#include "tier_laws.hpp"

#include <tuple>

using namespace kvfreeze;

using Tiers =
    std::tuple<InPlaceTier, DiscardTier, HostTier, Checksummed<HostTier>, Statistics<HostTier>,
               FaultInjecting<HostTier>, Statistics<Checksummed<FaultInjecting<HostTier>>>,
               Statistics<DiscardTier>, archetypes::MinimalTier, archetypes::MoveOnlyTier,
               Checksummed<archetypes::MinimalTier>>;

TEMPLATE_LIST_TEST_CASE("tier laws", "[laws][tier]", Tiers) {
  laws::tier([] { return TestType{}; });
}

TEST_CASE("tier laws for granules of one page and of several", "[laws][tier]") {
  TierGeometry geometry{.sequences = 2, .lanes = 2, .granules = 40, .part_bytes = 2048};
  laws::tier([] { return HostTier{}; }, geometry);
  geometry.part_bytes = 5000;
  laws::tier([] { return Checksummed<HostTier>{}; }, geometry);
}

TEST_CASE("tier laws for lanes with several pages of bookkeeping", "[laws][tier]") {
  laws::tier([] { return HostTier{}; },
             {.sequences = 1, .lanes = 2, .granules = 20000, .part_bytes = 8});
}

TEST_CASE("a tier that is out of order says so", "[laws][tier]") {
  archetypes::ThrowingTier tier;
  REQUIRE_THROWS_AS(tier.store({}), TierError);
  REQUIRE_THROWS_AS(tier.load({}), TierError);
}
