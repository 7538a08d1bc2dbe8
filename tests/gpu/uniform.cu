#include <kvfreeze/gpu/presets.cuh>

#include <catch2/catch.hpp>

#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;

template <int Bits, class T, int MaxHeadDim = 64>
auto uniform_twins(Shape const& shape, Limits const& limits) {
  return Twins<gpu::presets::UniformQuantised<Bits, T, MaxHeadDim>>(
      make_uniform_twin<Bits, T>(shape, limits), shape, limits, UniformScheduler{}, NeverTrigger{});
}

}  // namespace

TEST_CASE("Every row that is not protected is coded in 4 bits on both sides", "[cache]") {
  auto twins = uniform_twins<4, Half>(small, limits_of(256, 3));
  come_and_go(twins);
}

TEST_CASE("Codes of 2, 3 and 8 bits, other elements and groups", "[cache]") {
  Shape const single{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 128};
  Shape const four{.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 40};
  auto two = uniform_twins<2, Half>(small, limits_of(256, 1));
  auto three = uniform_twins<3, BFloat16, 128>(single, limits_of(256, 1));
  auto eight = uniform_twins<8, float>(four, limits_of(256, 1));
  std::size_t const a = two.open(1);
  std::size_t const b = three.open(2);
  std::size_t const c = eight.open(3);
  for (int i = 0; i < 150; ++i) {
    two.step({a});
    three.step({b});
    eight.step({c});
  }
  CHECK(two.rows(a).compact > 0);
  CHECK(three.rows(b).compact > 0);
  CHECK(eight.rows(c).compact > 0);
}

TEST_CASE("Coded rows are forgotten, pinned and brought back on both sides", "[cache]") {
  auto twins = uniform_twins<4, Half>(small, limits_of(320, 2));
  std::size_t const first = twins.open(4);
  std::size_t const second = twins.open(5);
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 50; ++i) {
      twins.step({first, second});
    }
    twins.truncate(first, 45 * (round + 1) - 7);  // a group is coded no longer
    twins.pin(second, {{20 + round, 25 + round}, {60, 60 + 10 * (round + 1)}});
    for (int i = 0; i < 3; ++i) {
      twins.step({second, first});
    }
    if (round % 2 == 1) {
      twins.thaw(first);
    }
    twins.compare_rows(second);
  }
  CHECK(twins.rows(second).compact > 0);
  CHECK(twins.rows(second).frozen == 0);
  twins.pin(second, {});
  twins.step({second});
}

TEST_CASE("A prompt in chunks is coded on both sides", "[cache]") {
  auto twins = uniform_twins<4, Half>(small, limits_of(512, 1));
  std::size_t const sequence = twins.open(6);
  for (int const chunk : {30, 34, 150, 2, 61}) {
    twins.prefill(sequence, chunk);
  }
  decode(twins, sequence, 20);
  twins.prefill(sequence, 70);
  decode(twins, sequence, 5);
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.compact > rows.exact);
  // append, codes, scan, logits of codes, attention; of the slow clock the report and what goes
  // back
  check_launches(twins, sequence, 5, 2);
}

TEST_CASE("A captured step of coded rows serves later ones", "[cache]") {
  auto twins = uniform_twins<4, Half>(small, limits_of(256, 3));
  replay_by_turns(twins);
}

TEST_CASE("All codes fit under the least cap", "[budgets]") {
  using Cache = gpu::presets::UniformQuantised<4, Half, 64>;
  hold_caps<Cache>(320, 64, {0.0, 0.1});
  Limits limits = limits_of(256, 1);
  limits.resident_bytes = least_cap<Cache>(limits);
  Cache cache(small, limits);
  CHECK(cache.device_bytes() <= limits.resident_bytes);
  Driver<Cache> driver(cache, 3);
  for (int chunk = 0; chunk < 4; ++chunk) {
    driver.prefill(64);
  }
  driver.check_report();
  CHECK(driver.report().rows.frozen == 0);
  CHECK_THROWS_AS(driver.thaw(), CapacityError);
}

TEST_CASE("A cap spares the room for rows that are never exact", "[budgets]") {
  using Cache = gpu::presets::UniformQuantised<4, Half, 64>;
  Limits limits = limits_of(4096, 1);
  std::size_t const free = Cache(small, limits).device_bytes();
  limits.resident_bytes = least_cap<Cache>(limits);
  CHECK(Cache(small, limits).device_bytes() < free / 2);
}

TEST_CASE("Pinned rows and their codes come back as a transfer budget lets them", "[budgets]") {
  using Cache = gpu::presets::UniformQuantised<4, Half, 64>;
  constexpr std::size_t row_bytes = 2 * 64 * sizeof(Half);
  constexpr int pinned = 40;
  Limits limits = capped_limits(320, 1);
  limits.transfer_bytes = 2 * capped_lanes * row_bytes - 1;
  CHECK_THROWS_AS(Cache(small, limits), InvalidArgument);
  limits.transfer_bytes = 4 * capped_lanes * row_bytes;  // of a lane and step three that come back
  Cache cache(small, limits);
  Driver<Cache> driver(cache, 7);
  for (int const chunk : {60, 60, 60, 30}) {
    driver.prefill(chunk);
  }
  auto const step = [&] {
    Driver<Cache>::step({&driver});
    driver.check_report();
    StepReport const report = driver.report();
    REQUIRE(report.moved_in_bytes + report.moved_out_bytes <= limits.transfer_bytes);
    return report;
  };
  // Beside rows whose digest is not complete, of which every step appends one.
  auto const exact = [&] {
    return static_cast<int>(driver.report().rows.exact) / capped_lanes - driver.length();
  };
  step();
  int const before = exact();
  driver.pin({{60, 60 + pinned}});
  for (int i = 1; 3 * i < pinned; ++i) {
    StepReport const report = step();
    CHECK(report.thawed_rows == 3 * capped_lanes);
    CHECK(report.deferred_rows == static_cast<std::uint64_t>((pinned - 3 * i) * capped_lanes));
    CHECK(exact() == before + 3 * i);
  }
  step();
  driver.check(64);
  CHECK(exact() == before + pinned);
  CHECK(driver.report().rows.frozen == 0);
  driver.pin({});
  StepReport const report = step();
  CHECK(report.moved_in_bytes == 0);
  CHECK(exact() == before);
}
