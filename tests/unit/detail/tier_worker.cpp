#include <kvfreeze/detail/tier_worker.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>
#include <kvfreeze/tier/host_tier.hpp>

#include <catch2/catch.hpp>

#include <cstdint>
#include <cstring>
#include <vector>

using namespace kvfreeze;

namespace {

using Tier = FaultInjecting<HostTier>;

constexpr TierGeometry geometry{.sequences = 1, .lanes = 8, .granules = 64, .part_bytes = 24};
constexpr std::uint32_t block = 4;
constexpr std::size_t block_bytes = block * 2 * 24;

void fill(std::byte* data, std::uint32_t number) {
  for (std::size_t i = 0; i < block_bytes; ++i) {
    data[i] = static_cast<std::byte>(number * 7 + i);
  }
}

bool holds(std::byte const* data, std::uint32_t number) {
  std::byte expected[block_bytes];
  fill(expected, number);
  return std::memcmp(data, expected, block_bytes) == 0;
}

TierKey key_of(std::uint32_t number) { return {0, number / 16, number % 16 * block}; }

}  // namespace

TEST_CASE("A worker stores and loads what it is told, in order", "[threads]") {
  constexpr std::uint32_t places = 6;
  std::vector<std::byte> memory(places * block_bytes);
  detail::TierWorker<Tier> worker(Tier{}, geometry, places, block);
  CHECK_FALSE(worker.poll().has_value());
  std::uint32_t stored = 0;
  for (std::uint32_t next = 0; next < 128;) {  // places are used again as soon as they are done
    while (next < 128 && worker.under_way() < places) {
      std::uint32_t const place = next % places;
      fill(memory.data() + place * block_bytes, next);
      worker.submit({key_of(next), block, memory.data() + place * block_bytes, next, false});
      ++next;
    }
    detail::TierResult const result = worker.wait();
    CHECK(result.task.tag == stored++);
    CHECK_FALSE(result.failure);
  }
  while (worker.under_way() > 0) {
    CHECK_FALSE(worker.wait().failure);
  }
  CHECK(worker.bytes() == worker.tier().bytes());
  CHECK(worker.bytes() > 0);
  for (std::uint32_t number = 0; number < 128; number += 2) {
    std::byte* const place = memory.data() + number % places * block_bytes;
    std::memset(place, 0, block_bytes);
    worker.submit({key_of(number), block, place, number, true});
    detail::TierResult const result = worker.wait();
    CHECK(result.task.tag == number);
    CHECK(holds(place, number));
  }
}

TEST_CASE("A worker hands failures over and goes on", "[threads]") {
  std::vector<std::byte> memory(3 * block_bytes);
  detail::TierWorker<Tier> worker(Tier{}, geometry, 3, block);
  worker.tier().arm({.call = 2});
  for (std::uint32_t number = 0; number < 3; ++number) {
    fill(memory.data() + number * block_bytes, number);
    worker.submit({key_of(number), block, memory.data() + number * block_bytes, number, false});
  }
  CHECK_FALSE(worker.wait().failure);
  detail::TierResult const failed = worker.wait();
  REQUIRE(failed.failure);
  CHECK_THROWS_AS(std::rethrow_exception(failed.failure), TierError);
  CHECK(failed.task.tag == 1);
  CHECK_FALSE(worker.wait().failure);
  worker.submit({key_of(1), block, memory.data(), 9, true});  // was never stored
  CHECK(worker.wait().failure);
}

TEST_CASE("A worker ends with tasks under way", "[threads]") {
  std::vector<std::byte> memory(8 * block_bytes);
  for (int round = 0; round < 20; ++round) {
    detail::TierWorker<HostTier> worker(HostTier{}, geometry, 8, block);
    for (std::uint32_t number = 0; number < static_cast<std::uint32_t>(round % 9); ++number) {
      worker.submit({key_of(number), block, memory.data() + number * block_bytes, number, false});
    }
  }
}
