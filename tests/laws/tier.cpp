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

// Each thing that a fork notes is paid for: whatever the capacity, it happens as a whole or not.
TEST_CASE("a host tier that is full refuses a fork as a whole", "[laws][tier]") {
  TierGeometry const geometry{.sequences = 3, .lanes = 2, .granules = 2000, .part_bytes = 64};
  laws::Random random(3);
  laws::TierBatch batch;
  for (std::uint32_t granule = 0; granule < 2000; granule += 7) {
    batch.keys.push_back({0, granule % 2, granule});
    batch.rows.push_back(laws::filled_row(geometry.part_bytes, random()));
  }
  auto children = batch;
  for (TierKey& key : children.keys) {
    key.sequence = 1;
  }
  int refused = 0;
  for (std::size_t more = 0;; more += host::VirtualMemory::page_bytes()) {
    HostTier probe;
    probe.attach(geometry);
    probe.store(batch.stores());
    HostTier tier(probe.bytes() + more);
    tier.attach(geometry);
    tier.store(batch.stores());
    std::size_t const before = tier.bytes();
    try {
      tier.fork(0, 1);
    } catch (TierError const&) {
      refused += 1;
      REQUIRE(tier.bytes() == before);
      REQUIRE(laws::loaded(tier, batch.keys, geometry) == batch.rows);
      REQUIRE_THROWS_AS(laws::loaded(tier, {children.keys[0]}, geometry), TierError);
      continue;
    }
    REQUIRE(tier.bytes() <= tier.capacity());
    REQUIRE(laws::loaded(tier, children.keys, geometry) == batch.rows);
    // Overwriting what is lent needs room for the borrower's copy: full, or done as a whole.
    auto other = batch;
    for (auto& row : other.rows) {
      row = laws::filled_row(geometry.part_bytes, random());
    }
    bool stored = false;
    try {
      tier.store(other.stores());
      stored = true;
    } catch (TierError const&) {
    }
    REQUIRE(tier.bytes() <= tier.capacity());
    REQUIRE(laws::loaded(tier, batch.keys, geometry) == (stored ? other.rows : batch.rows));
    REQUIRE(laws::loaded(tier, children.keys, geometry) == batch.rows);
    if (stored) {
      break;
    }
  }
  REQUIRE(refused > 2);
  HostTier tier;
  tier.attach(geometry);
  REQUIRE_THROWS_AS(tier.fork(0, 3), TierError);
  REQUIRE_THROWS_AS(tier.fork(1, 1), TierError);
}

TEST_CASE("a tier that is out of order says so", "[laws][tier]") {
  archetypes::ThrowingTier tier;
  REQUIRE_THROWS_AS(tier.store({}), TierError);
  REQUIRE_THROWS_AS(tier.load({}), TierError);
}
