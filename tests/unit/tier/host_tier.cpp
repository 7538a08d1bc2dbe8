#include <kvfreeze/host/virtual_memory.hpp>
#include <kvfreeze/tier/host_tier.hpp>

#include <catch2/catch.hpp>

#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace kvfreeze;

namespace {

std::size_t const page = host::VirtualMemory::page_bytes();

struct Row {
  std::vector<std::byte> k;
  std::vector<std::byte> v;

  explicit Row(std::size_t bytes, int value = 1)
      : k(bytes, static_cast<std::byte>(value)), v(bytes, static_cast<std::byte>(value + 1)) {}

  [[nodiscard]] StoreRequest at(TierKey key) const { return {key, k, v}; }

  [[nodiscard]] LoadRequest into(TierKey key) { return {key, k, v}; }
};

void store(HostTier& tier, TierKey key, Row const& part) {
  StoreRequest const request = part.at(key);
  tier.store({&request, 1});
}

void load(HostTier& tier, TierKey key, Row& part) {
  LoadRequest const request = part.into(key);
  tier.load({&request, 1});
}

/// Anonymous memory of this process that is really there, in bytes.
std::size_t resident() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "RssAnon:") {
      std::size_t kib = 0;
      status >> kib;
      return kib * 1024;
    }
  }
  return 0;
}

}  // namespace

TEST_CASE("bytes are the pages touched, each once", "[tier]") {
  HostTier tier;
  std::size_t const part = page / 8;  // four granules to a page
  tier.attach({.sequences = 2, .lanes = 2, .granules = 100, .part_bytes = part});
  REQUIRE(tier.bytes() == 0);
  Row const row(part);
  store(tier, {0, 0, 0}, row);
  REQUIRE(tier.bytes() == 2 * page);  // rows and the lane's bookkeeping
  store(tier, {0, 0, 3}, row);
  REQUIRE(tier.bytes() == 2 * page);
  store(tier, {0, 0, 4}, row);
  REQUIRE(tier.bytes() == 3 * page);
  store(tier, {1, 1, 4}, row);
  REQUIRE(tier.bytes() == 5 * page);
  tier.erase({0, 0, 0}, 1);
  REQUIRE(tier.bytes() == 5 * page);
  tier.erase({0, 0, 3}, 1);
  REQUIRE(tier.bytes() == 4 * page);
  tier.erase({0, 0, 0}, 100);
  REQUIRE(tier.bytes() == 2 * page);
  tier.erase({1, 1, 0}, 4);  // not stored
  tier.erase({1, 1, 4}, 4000000000U);
  REQUIRE(tier.bytes() == 0);
}

TEST_CASE("granules across page borders touch what they cover", "[tier]") {
  HostTier tier;
  tier.attach({.sequences = 1, .lanes = 1, .granules = 10, .part_bytes = page * 3 / 4});
  Row const row(page * 3 / 4);
  store(tier, {0, 0, 1}, row);  // bytes 1.5 to 3 pages
  REQUIRE(tier.bytes() == (2 + 1) * page);
  store(tier, {0, 0, 0}, row);  // bytes 0 to 1.5
  REQUIRE(tier.bytes() == (3 + 1) * page);
  tier.erase({0, 0, 1}, 1);
  REQUIRE(tier.bytes() == (2 + 1) * page);
}

TEST_CASE("bytes agree with what the system says", "[tier]") {
  if (resident() == 0) {
    return;  // not this kind of system
  }
  HostTier tier;
  std::size_t const part = 256;
  tier.attach({.sequences = 4, .lanes = 8, .granules = 1 << 16, .part_bytes = part});
  Row const row(part);
  std::size_t const before = resident();
  for (std::uint32_t granule = 0; granule < 16000; ++granule) {
    store(tier, {2, granule % 8, granule * 4}, row);
  }
  std::size_t const held = tier.bytes();
  REQUIRE(held > 16'000'000);
  REQUIRE(static_cast<double>(resident() - before) ==
          Approx(static_cast<double>(held)).epsilon(.05));
  for (std::uint32_t lane = 0; lane < 8; ++lane) {
    tier.erase({2, lane, 0}, 1 << 16);
  }
  REQUIRE(tier.bytes() == 0);
  REQUIRE(resident() < before + held / 20);
}

TEST_CASE("a full tier refuses the whole batch and names the numbers", "[tier]") {
  HostTier tier(3 * page);
  REQUIRE(tier.capacity() == 3 * page);
  tier.attach({.sequences = 1, .lanes = 2, .granules = 10, .part_bytes = page / 2});
  Row const row(page / 2);
  store(tier, {0, 0, 0}, row);
  std::vector<StoreRequest> const batch{row.at({0, 0, 1}), row.at({0, 0, 0}), row.at({0, 0, 2})};
  REQUIRE_THROWS_WITH(tier.store(batch), Catch::Contains(std::to_string(2 * page)) &&
                                             Catch::Contains(std::to_string(3 * page)));
  REQUIRE(tier.bytes() == 2 * page);
  Row read(page / 2);
  REQUIRE_THROWS_AS(load(tier, {0, 0, 1}, read), TierError);
  REQUIRE_THROWS_AS(store(tier, {0, 1, 0}, row), TierError);  // row and bookkeeping: two pages
  REQUIRE(tier.bytes() == 2 * page);
  store(tier, {0, 0, 1}, row);
  REQUIRE(tier.bytes() == 3 * page);
  store(tier, {0, 0, 0}, row);  // overwriting needs no room
  tier.erase({0, 0, 1}, 1);
  store(tier, {0, 0, 9}, row);
}

TEST_CASE("wrong keys and sizes are refused by name", "[tier]") {
  HostTier tier;
  Row row(64);
  REQUIRE_THROWS_WITH(store(tier, {0, 0, 0}, row), Catch::Contains("attach"));
  REQUIRE_THROWS_AS(tier.attach({.sequences = 1, .lanes = 1, .granules = 1}), InvalidArgument);
  tier.attach({.sequences = 1, .lanes = 2, .granules = 3, .part_bytes = 64});
  REQUIRE_THROWS_WITH(store(tier, {0, 2, 1}, row), Catch::Contains("lane 2"));
  REQUIRE_THROWS_WITH(store(tier, {0, 1, 3}, row), Catch::Contains("granule 3"));
  REQUIRE_THROWS_WITH(load(tier, {0, 1, 2}, row), Catch::Contains("granule 2"));
  Row small(63);
  REQUIRE_THROWS_WITH(store(tier, {0, 1, 1}, small), Catch::Contains("63"));
  std::vector<StoreRequest> const batch{row.at({0, 0, 0}), small.at({0, 0, 1})};
  REQUIRE_THROWS_AS(tier.store(batch), TierError);
  REQUIRE(tier.bytes() == 0);
  tier.erase({7, 7, 7}, 7);
  REQUIRE_THROWS_AS(
      tier.attach(
          {.sequences = 1U << 31, .lanes = 1U << 31, .granules = 1U << 31, .part_bytes = 1 << 20}),
      OutOfMemory);
}

TEST_CASE("attaching again forgets", "[tier]") {
  HostTier tier;
  Row row(64);
  TierGeometry const geometry{.sequences = 1, .lanes = 1, .granules = 3, .part_bytes = 64};
  tier.attach(geometry);
  store(tier, {0, 0, 0}, row);
  tier.attach(geometry);
  REQUIRE(tier.bytes() == 0);
  REQUIRE_THROWS_AS(load(tier, {0, 0, 0}, row), TierError);
}

TEST_CASE("what was moved from holds nothing and can be attached again", "[tier]") {
  HostTier tier;
  Row row(64);
  TierGeometry const geometry{.sequences = 1, .lanes = 1, .granules = 3, .part_bytes = 64};
  tier.attach(geometry);
  store(tier, {0, 0, 0}, row);
  HostTier const moved(std::move(tier));
  REQUIRE(moved.bytes() > 0);
  REQUIRE(tier.bytes() == 0);
  REQUIRE_THROWS_AS(load(tier, {0, 0, 0}, row), TierError);
  tier.attach(geometry);
  store(tier, {0, 0, 0}, row);
}

TEST_CASE("lanes work at the same time", "[tier]") {
  HostTier tier;
  std::size_t const part = 100;
  tier.attach({.sequences = 1, .lanes = 4, .granules = 2000, .part_bytes = part});
  bool good[4] = {};
  std::vector<std::thread> threads;
  for (std::uint32_t lane = 0; lane < 4; ++lane) {
    threads.emplace_back([&, lane] {
      bool same = true;
      for (std::uint32_t granule = 0; granule < 2000; ++granule) {
        Row const row(part, static_cast<int>(granule % 200U));
        store(tier, {0, lane, granule}, row);
        Row read(part, 255);
        load(tier, {0, lane, granule}, read);
        same = same && read.k == row.k && read.v == row.v;
        if (granule % 3U == 0) {
          tier.erase({0, lane, granule}, 1);
        }
      }
      good[lane] = same;
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (std::uint32_t lane = 0; lane < 4; ++lane) {
    REQUIRE(good[lane]);
    tier.erase({0, lane, 0}, 2000);
  }
  REQUIRE(tier.bytes() == 0);
}
