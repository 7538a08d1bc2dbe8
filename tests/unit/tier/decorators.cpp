#include <kvfreeze/tier/checksummed.hpp>
#include <kvfreeze/tier/discard_tier.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/tier/statistics.hpp>

#include <catch2/catch.hpp>

#include <array>
#include <vector>

using namespace kvfreeze;

namespace {

constexpr TierGeometry geometry{.sequences = 1, .lanes = 2, .granules = 100, .part_bytes = 32};

using Bytes = std::array<std::byte, 32>;

Bytes filled(int value) {
  Bytes bytes;
  bytes.fill(static_cast<std::byte>(value));
  return bytes;
}

template <class Tier>
void store(Tier& tier, TierKey key, Bytes const& k, Bytes const& v) {
  StoreRequest const request{key, k, v};
  tier.store({&request, 1});
}

template <class Tier>
void load(Tier& tier, TierKey key) {
  Bytes k = filled(0);
  Bytes v = filled(0);
  LoadRequest const request{key, k, v};
  tier.load({&request, 1});
}

}  // namespace

TEST_CASE("statistics count calls, granules and bytes each way", "[tier]") {
  Statistics<HostTier> tier;
  tier.attach(geometry);
  Bytes const row = filled(3);
  std::vector<StoreRequest> const three{
      {{0, 0, 1}, row, row}, {{0, 0, 2}, row, row}, {{0, 1, 2}, row, row}};
  tier.store(three);
  store(tier, {0, 0, 9}, row, row);
  load(tier, {0, 0, 1});
  REQUIRE_THROWS_AS(load(tier, {0, 0, 5}), TierError);
  tier.erase({0, 0, 0}, 10);
  REQUIRE(tier.counts() ==
          TierCounts{
              .store = {.calls = 2, .granules = 4, .bytes = 256, .max_batch = 3},
              .load = {.calls = 2, .failed_calls = 1, .granules = 1, .bytes = 64, .max_batch = 1},
              .erase_calls = 1,
              .erased_granules = 10});
  tier.reset();
  REQUIRE(tier.counts() == TierCounts{});
}

TEST_CASE("a damaged granule is named with both sums", "[tier]") {
  Checksummed<HostTier> tier;
  tier.attach(geometry);
  store(tier, {0, 1, 7}, filled(1), filled(2));
  store(tier, {0, 1, 8}, filled(3), filled(4));
  load(tier, {0, 1, 7});
  Bytes v = filled(2);
  v[17] ^= std::byte{1};
  store(tier.tier(), {0, 1, 7}, filled(1), v);  // behind the decorator's back
  REQUIRE_THROWS_WITH(load(tier, {0, 1, 7}), Catch::Contains("lane 1, granule 7") &&
                                                 Catch::Contains("checksum") &&
                                                 Catch::Contains("stored with"));
  load(tier, {0, 1, 8});
}

TEST_CASE("swapped parts and swapped granules are found", "[tier]") {
  Checksummed<HostTier> tier;
  tier.attach(geometry);
  store(tier, {0, 0, 1}, filled(1), filled(2));
  store(tier, {0, 0, 2}, filled(3), filled(4));
  store(tier.tier(), {0, 0, 1}, filled(3), filled(4));
  REQUIRE_THROWS_AS(load(tier, {0, 0, 1}), TierError);
  store(tier.tier(), {0, 0, 1}, filled(2), filled(1));
  REQUIRE_THROWS_AS(load(tier, {0, 0, 1}), TierError);
  store(tier.tier(), {0, 0, 1}, filled(1), filled(2));
  load(tier, {0, 0, 1});
}

TEST_CASE("the memory of the sums is counted", "[tier]") {
  Checksummed<HostTier> tier;
  tier.attach(geometry);
  REQUIRE(tier.bytes() == 0);
  store(tier, {0, 0, 1}, filled(1), filled(2));
  REQUIRE(tier.bytes() > tier.tier().bytes());
  tier.erase({0, 0, 1}, 1);
  REQUIRE(tier.bytes() == 0);
  REQUIRE_THROWS_WITH(store(tier, {0, 5, 1}, filled(1), filled(2)), Catch::Contains("lane 5"));
}

TEST_CASE("a fault comes at the call it is planned for", "[tier]") {
  FaultInjecting<HostTier> tier(2);
  tier.attach(geometry);
  Bytes const row = filled(1);
  store(tier, {0, 0, 1}, row, row);
  REQUIRE_THROWS_AS(load(tier, {0, 0, 1}), TierError);  // the second call of both kinds
  load(tier, {0, 0, 1});
  REQUIRE(tier.calls() == 3);
  tier.arm({.call = 1, .in_store = false, .persistent = true});
  store(tier, {0, 0, 1}, row, row);
  REQUIRE(tier.calls() == 0);
  REQUIRE_THROWS_WITH(load(tier, {0, 0, 1}), Catch::Contains("load, call 1"));
  REQUIRE_THROWS_AS(load(tier, {0, 0, 1}), TierError);
  tier.disarm();
  load(tier, {0, 0, 1});
}

TEST_CASE("decorators are what they decorate", "[tier]") {
  static_assert(Statistics<DiscardTier>::kind == TierKind::discarding);
  static_assert(!Statistics<DiscardTier>::lossless);
  static_assert(FaultInjecting<InPlaceTier>::kind == TierKind::in_place);
  static_assert(FaultInjecting<InPlaceTier>::lossless);
  REQUIRE(Statistics<HostTier>(HostTier(1000)).capacity() == 1000);
  REQUIRE(Checksummed<HostTier>(HostTier(1000)).capacity() == 1000);
  REQUIRE(FaultInjecting<HostTier>(HostTier(1000)).capacity() == 1000);
  REQUIRE(Statistics<DiscardTier>{}.capacity() == unlimited);
}

TEST_CASE("what was discarded cannot be loaded", "[tier]") {
  DiscardTier tier;
  store(tier, {0, 1, 2}, filled(1), filled(1));
  REQUIRE(tier.bytes() == 0);
  REQUIRE_THROWS_WITH(load(tier, {0, 1, 2}), Catch::Contains("lane 1, granule 2"));
}
