#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/ladder_twins.cuh>
#include <random>
#include <support/short_tests.hpp>
#include <vector>

namespace {

using namespace kvfreeze;

using Cache = gpu::test::Ladder<Half>;
using gpu::test::ladder;
using gpu::test::small;

constexpr int lanes = gpu::test::capped_lanes;
constexpr std::size_t row_bytes = 2 * 64 * 2;

using Driver = gpu::test::Driver<Cache>;

Limits budget_limits(int tokens, int sequences) {
  return gpu::test::capped_limits(tokens, sequences);
}

/// Shorter histories are asked for.
bool const few = kvfreeze_test::short_tests();

std::size_t least_cap(Limits const& limits) {
  return gpu::test::least_cap<Cache>(limits, ladder());
}

}  // namespace

TEST_CASE("A byte cap holds from the first token to the last", "[budgets]") {
  Limits limits = budget_limits(384, 1);
  std::size_t const least = least_cap(limits);
  REQUIRE(least > 0);
  std::size_t const full = 384 * lanes * row_bytes;
  for (std::size_t const more : {std::size_t{0}, full / 4}) {
    limits.resident_bytes = least + more;
    Cache cache(small, limits, ladder());
    CHECK(cache.device_bytes() <= limits.resident_bytes);
    Driver driver(cache, 3);
    bool raised = false;
    driver.prefill(200);
    driver.check(64);
    for (int i = 0; i < (few ? 40 : 80); ++i) {
      Driver::step({&driver});
      StepReport const report = driver.report();
      REQUIRE(report.ledger.resident() <= limits.resident_bytes);
      raised = raised || report.binding == Binding::resident_bytes;
      if (i % 16 == 0) {
        driver.check(64);
        driver.check_report();
      }
    }
    CHECK(raised);
    CHECK(cache.device_bytes() <= limits.resident_bytes);
  }
}

TEST_CASE("A cap with room for everything decides as none", "[budgets]") {
  Limits const limits = budget_limits(384, 1);
  Limits wide = limits;
  wide.resident_bytes = std::size_t{1} << 28;
  auto needed = ladder();
  needed.fill = 1.0F;
  auto twins = gpu::test::ladder_twins(small, wide, needed, NeverTrigger{}, limits);
  std::size_t const sequence = twins.open(4);
  twins.prefill(sequence, 150);
  for (int i = 0; i < 40; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen > 0);
  check_launches(twins, sequence, 3, 3 + 2);  // and plans, and what gives way
}

TEST_CASE("A ladder that fills its cap decides as one with lower thresholds", "[budgets]") {
  Limits const limits = budget_limits(256, 1);
  Limits wide = limits;
  wide.resident_bytes = std::size_t{1} << 28;
  LadderScheduler<> filling = ladder();
  filling.fill = 0.25F;
  LadderScheduler<> low = ladder();
  low.none *= filling.fill;
  low.first *= filling.fill;
  low.second *= filling.fill;
  gpu::test::Twins<Cache> twins(
      gpu::test::make_ladder_twin<Half>(small, limits, low, NeverTrigger{}), small, wide, filling,
      NeverTrigger{});
  std::size_t const sequence = twins.open(5);
  twins.prefill(sequence, 130);
  gpu::test::decode(twins, sequence, 30);
  CHECK(twins.rows(sequence).frozen > 0);
  CHECK(twins.device().report(twins.handle(sequence)).water_level == low.none);
}

TEST_CASE("What a capped sequence keeps does not depend on the others", "[budgets]") {
  Limits limits = budget_limits(256, 2);
  limits.resident_bytes = least_cap(limits) + 256 * lanes * row_bytes / 3;
  Cache alone(small, limits, ladder());
  Cache shared(small, limits, ladder());
  Driver first(alone, 5);
  Driver second(shared, 5);
  Driver other(shared, 9);
  first.prefill(60);
  second.prefill(60);
  for (int i = 0; i < (few ? 30 : 60); ++i) {
    Driver::step({&first});
    if (i % 3 == 0) {
      Driver::step({&second});
      Driver::step({&other});
    } else {
      Driver::step({&other, &second});
    }
    if (i % 10 == 9) {
      REQUIRE(first.fidelities() == second.fidelities());
    }
  }
}

TEST_CASE("Truncation, pins, chunks and a reset under a cap", "[budgets]") {
  Limits limits = budget_limits(512, 1);
  limits.resident_bytes = least_cap(limits) + 512 * lanes * row_bytes / 4;
  Cache cache(small, limits, ladder());
  Driver driver(cache, 6);
  std::mt19937 random(11);
  int length = 0;
  for (int i = 0; i < (few ? 30 : 60); ++i) {
    int const what = static_cast<int>(random() % 12);
    if (what == 0 && length < 512 - 130) {
      int const tokens = 1 + static_cast<int>(random() % 128);
      driver.prefill(tokens);
      length += tokens;
    } else if (what == 1 && length > 10) {
      length -= static_cast<int>(random() % static_cast<unsigned>(std::min(length, 100)));
      driver.truncate(length);
    } else if (what == 2) {
      driver.pin({{length / 2, length / 2 + 3}});
    } else if (what == 3 && length < 100) {
      driver.thaw();
    } else if (length < 512) {
      Driver::step({&driver});
      length += 1;
      driver.check_report();
    }
    driver.check(64);
  }
  driver.prefill(512 - length);
  CHECK_THROWS_AS(driver.thaw(), CapacityError);
  driver.check(64);
}

TEST_CASE("A transfer budget bounds what a step moves", "[budgets]") {
  for (bool const capped : {false, true}) {
    Limits limits = budget_limits(512, 1);
    if (capped) {
      limits.resident_bytes = least_cap(limits) + 512 * lanes * row_bytes / 4;
    }
    limits.transfer_bytes = 3 * lanes * row_bytes;
    auto scheduler = ladder();
    scheduler.stay = 1;
    scheduler.every = 1;
    Cache cache(small, limits, scheduler);
    Driver driver(cache, 7);
    driver.prefill(200);
    std::uint64_t deferred = 0;
    std::uint64_t thawed = 0;
    for (int i = 0; i < (few ? 25 : 60); ++i) {
      Driver::step({&driver});
      StepReport const report = driver.report();
      REQUIRE(report.moved_in_bytes + report.moved_out_bytes <= limits.transfer_bytes);
      deferred += report.deferred_rows;
      thawed += report.thawed_rows;
    }
    driver.check(64);
    CHECK(deferred > 0);
    CHECK(thawed > 0);
  }
}

TEST_CASE("Budgets that cannot work are refused with the least", "[budgets]") {
  Limits limits = budget_limits(256, 2);
  std::size_t const least = least_cap(limits);
  limits.resident_bytes = least - 1;
  CHECK_THROWS_AS(Cache(small, limits, ladder()), CapacityError);
  limits.resident_bytes = least;
  CHECK_NOTHROW(Cache(small, limits, ladder()));
  Cache cache(small, limits, ladder());
  gpu::test::Stream const stream;
  Sequence const sequence = cache.open(stream);
  CHECK_NOTHROW(cache.begin_prefill_async(sequence, 256, stream));
  cache.close(sequence, stream);
  Limits wide = budget_limits(1024, 1);
  wide.resident_bytes = least_cap(wide);
  Cache large(small, wide, ladder());
  Sequence const other = large.open(stream);
  CHECK_THROWS_AS(large.begin_prefill_async(other, 513, stream), InvalidArgument);
  large.close(other, stream);
  limits.transfer_bytes = 2 * lanes * row_bytes - 1;
  CHECK_THROWS_AS(Cache(small, limits, ladder()), InvalidArgument);
}
