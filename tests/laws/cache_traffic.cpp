#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"

using namespace kvfreeze;

namespace {

using Tier = Statistics<HostTier>;

}  // namespace

TEST_CASE("traffic is bounded: ExactRecall", "[laws][cache][traffic]") {
  laws::traffic_is_bounded<presets::ExactRecall<Half, Tier>>(
      {.scheduler = {.missed_mass = 0.05F, .stay = 1, .dense_rows = 0}});
}

TEST_CASE("traffic is bounded: AsrKfEgrEager", "[laws][cache][traffic]") {
  laws::traffic_is_bounded<presets::AsrKfEgrEager<Half, Tier>>({.scheduler = {.softness = 0.2F}});
}

TEST_CASE("traffic is bounded: granules of 4, layer lanes", "[laws][cache][traffic]") {
  laws::traffic_is_bounded<
      KvFreezeCache<Layout<float, 4, Grouping::layer>, EmaMassScorer<KeyCodes<4>>,
                    FixedBudgetScheduler, Tier, MissedMassTrigger>>({});
}

TEST_CASE("what was thawed stays", "[laws][cache][traffic]") {
  laws::what_was_thawed_stays<presets::ExactRecall<>>(
      {.scheduler = {.missed_mass = 0.1F, .stay = 5, .dense_rows = 0}}, 5);
  laws::what_was_thawed_stays<KvFreezeCache<Layout<Half>, EmaMassScorer<BoxDigest<>>,
                                            MassLadderScheduler<true>, HostTier, NeverTrigger>>(
      {.scheduler = {.missed_mass = 0.1F, .stay = 3, .softness = 1.0F, .dense_rows = 0}}, 3);
}

namespace {

/// Keys and queries along axes: what a query wants is known without computing.
struct AxisStep {
  std::vector<float> k, v, q, out;

  AxisStep(Shape const& shape, int key_axis, float key, std::vector<std::pair<int, float>> query)
      : k(static_cast<std::size_t>(shape.head_dim)), v(k.size(), 1.0F), q(k.size()), out(k.size()) {
    k[static_cast<std::size_t>(key_axis)] = key;
    for (auto const& [axis, x] : query) {
      q[static_cast<std::size_t>(axis)] = x;
    }
  }
};

constexpr Shape one_lane{
    .layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 16, .scale = 1.0F};

}  // namespace

// Rows 0..127 point along axis 1 or 2; queries along axis 0 let all of them freeze, then one along
// axis 1 wants the first half, of which the budget pays for ten.
TEST_CASE("what did not fit is first in line", "[laws][cache][traffic]") {
  using Cache = presets::ExactRecall<float>;
  Limits limits;
  limits.max_tokens = 512;
  limits.sinks = 0;
  limits.window = 8;
  limits.transfer_bytes = 10 * 2 * 16 * sizeof(float);
  Cache cache(one_lane, limits, {}, {.missed_mass = 0.02F, .stay = 1, .dense_rows = 0});
  auto const sequence = cache.open();
  auto const step = [&](int key_axis, float key, std::vector<std::pair<int, float>> const& query) {
    AxisStep in(one_lane, key_axis, key, query);
    cache.attend(sequence, 0, in.q, in.k, in.v, in.out);
    return cache.advance(sequence);
  };
  for (int i = 0; i < 128; ++i) {
    step(i < 64 ? 1 : 2, 4.0F, {{0, 4.0F}});
  }
  for (int i = 0; i < 100; ++i) {
    step(0, 4.0F, {{0, 4.0F}});
  }
  std::vector<Fidelity> before(static_cast<std::size_t>(cache.length(sequence)));
  cache.fidelities(sequence, 0, 0, before);
  REQUIRE(std::count(before.begin(), before.begin() + 128, Fidelity::exact) == 0);
  auto report = step(0, 4.0F, {{1, 8.0F}});
  REQUIRE(report.thawed_rows == 10);
  REQUIRE(report.deferred_rows == 54);
  REQUIRE(report.binding == Binding::transfer_bytes);
  std::vector<Fidelity> first(static_cast<std::size_t>(cache.length(sequence)));
  cache.fidelities(sequence, 0, 0, first);
  REQUIRE(std::count(first.begin(), first.begin() + 64, Fidelity::exact) == 10);
  // Now axis 2 weighs more, but what waits since the step before comes first.
  report = step(0, 4.0F, {{1, 8.0F}, {2, 8.2F}});
  REQUIRE(report.thawed_rows == 10);
  std::vector<Fidelity> second(static_cast<std::size_t>(cache.length(sequence)));
  cache.fidelities(sequence, 0, 0, second);
  CHECK(std::count(second.begin(), second.begin() + 64, Fidelity::exact) == 20);
  CHECK(std::count(second.begin() + 64, second.begin() + 128, Fidelity::exact) == 0);
}

// Law 8: whoever is low at every look is looked at ever more rarely.
TEST_CASE("sleepers cost nothing", "[laws][cache][traffic]") {
  auto const touched = [](auto scheduler) {
    Limits limits;
    limits.max_tokens = 2048;
    limits.sinks = 1;
    limits.window = 8;
    KvFreezeCache<Layout<float>, InstantMassScorer<KeyCodes<4>>, decltype(scheduler), HostTier,
                  NeverTrigger>
        cache(one_lane, limits, {}, scheduler);
    auto const sequence = cache.open();
    std::size_t late = 0;
    for (int i = 0; i < 1500; ++i) {
      AxisStep in(one_lane, i == 0 ? 0 : 1, 4.0F, {{0, 4.0F}});  // only the sink matters
      cache.attend(sequence, 0, in.q, in.k, in.v, in.out);
      std::size_t const attended =
          static_cast<std::size_t>(cache.exact_rows(sequence, 0, 0)) * 2U * 16U * sizeof(float);
      auto const report = cache.advance(sequence);
      REQUIRE(report.touched_bytes >= attended);
      late += i >= 1000 ? report.touched_bytes - attended : 0;
      REQUIRE(report.rows.exact <= 1 + 8 + 64 + 2);
    }
    return late;
  };
  std::size_t const awake = touched(MassLadderScheduler<true>{.stay = 1, .dense_rows = 0});
  std::size_t const asleep =
      touched(MassLadderScheduler<true>{.stay = 1, .softness = 0.25F, .dense_rows = 0});
  CHECK(asleep * 3 < awake * 2);
}
