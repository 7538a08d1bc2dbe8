// Law 4 and the controller: one water level meets the byte cap, settles and stays.

#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"
#include "ladder_caches.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

using namespace kvfreeze;

namespace {

constexpr Shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64};

/// A sequence whose inputs go on and on.
template <class Cache>
class Driver {
 public:
  Driver(Cache& cache, std::uint64_t seed)
      : cache_(&cache), handle_(cache.open()), input_(shape, seed) {}

  StepReport step(int tokens = 1) {
    for (int layer = 0; layer < shape.layers; ++layer) {
      auto input = input_.next(tokens);
      cache_->attend(handle_, layer, input.q, input.k, input.v, input.out);
      CHECK(cache_->ledger().resident() <= cache_->limits().resident_bytes);
    }
    auto const report = cache_->advance(handle_);
    CHECK(report.ledger.resident() <= cache_->limits().resident_bytes);
    return report;
  }

  void close() { cache_->close(handle_); }

 private:
  Cache* cache_;
  Sequence handle_;
  kvfreeze_test::InputStream input_;
};

/// How often a series turns round, changes of less than `least` not counted.
int turns(std::vector<float> const& levels, float least) {
  int turns = 0;
  int direction = 0;
  float turned = levels.empty() ? 0.0F : levels.front();
  for (float const level : levels) {
    if (std::fabs(level - turned) <= least) {
      continue;
    }
    int const now = level > turned ? 1 : -1;
    turns += direction != 0 && now != direction ? 1 : 0;
    direction = now;
    turned = level;
  }
  return turns;
}

float mean_of(std::vector<float> const& levels) {
  return std::accumulate(levels.begin(), levels.end(), 0.0F) / static_cast<float>(levels.size());
}

Limits limits_of(int tokens) {
  Limits limits;
  limits.max_tokens = tokens;
  limits.max_sequences = 2;
  limits.sinks = 2;
  limits.window = 16;
  return limits;
}

using Cache =
    KvFreezeCache<presets::KvFreeze<>::layout_type, presets::KvFreeze<>::scorer_type,
                  LadderScheduler<>, HostTier, NeverTrigger>;  // no recoveries: the level alone

/// Resident bytes of a run without a cap, after `steps` steps.
std::size_t free_bytes(Cache::scheduler_type const& scheduler, int tokens, int steps) {
  Cache cache(shape, limits_of(tokens + steps + 64), {}, scheduler);
  Driver<Cache> driver(cache, 4);
  StepReport report = driver.step(tokens);
  for (int i = 0; i < steps; ++i) {
    report = driver.step();
  }
  return report.ledger.resident();
}

std::size_t least_bytes(Limits limits) {
  limits.resident_bytes = 1;
  try {
    Cache const cache(shape, limits);
  } catch (CapacityError const& error) {
    return error.needed();
  }
  return 0;
}

}  // namespace

// A cap that binds from the end of the prompt on. What a lane needs exact grows by a row a step
// until a group of 64 is coded: the level follows in teeth of 64 steps.
TEST_CASE("the water level settles within 32 steps and stays", "[laws][cache][ladder][water]") {
  Cache::scheduler_type const scheduler{.dense = false};
  constexpr int tokens = 3000;
  constexpr int tooth = 64;
  Limits limits = limits_of(tokens + 300);
  std::size_t const least = least_bytes(limits);
  std::size_t const most = free_bytes(scheduler, tokens, 40);
  REQUIRE(least < most);
  for (std::size_t const share : {5U, 10U, 20U}) {
    limits.resident_bytes = least + (most - least) * share / 100;
    CAPTURE(share, least, most, limits.resident_bytes);
    Cache cache(shape, limits, {}, scheduler);
    Driver<Cache> driver(cache, 4);
    driver.step(tokens);
    std::vector<float> levels;
    int bound = 0;
    for (int i = 0; i < 32 + 3 * tooth; ++i) {
      auto const report = driver.step();
      levels.push_back(report.water_level);
      bound += report.binding == Binding::resident_bytes ? 1 : 0;
    }
    CAPTURE(levels);
    CHECK(bound > 200);
    std::vector<float> const settled(levels.begin() + 32, levels.end());
    float const mean = mean_of(settled);
    for (auto first = settled.begin(); first != settled.end(); first += tooth) {
      float const one = mean_of({first, first + tooth});
      CHECK(one < 1.6F * mean);
      CHECK(one > mean / 1.6F);
    }
    CHECK(turns(settled, mean) <= 2 * 3);
    CHECK(levels[8] < 2.5F * mean);  // it starts where it stays
    CHECK(levels[8] > mean / 2.5F);
  }
}

TEST_CASE("a cap is used unless the ladder is told not to", "[laws][cache][ladder][water]") {
  Cache::scheduler_type const filling{.dense = false};
  Cache::scheduler_type plain = filling;
  plain.fill = 1.0F;
  constexpr int tokens = 1500;
  constexpr int steps = 100;
  CHECK(free_bytes(filling, tokens, steps) == free_bytes(plain, tokens, steps));  // there is none
  Limits limits = limits_of(tokens + steps);
  std::size_t const free = free_bytes(plain, tokens, steps);
  limits.resident_bytes = 2 * free;
  auto const last_of = [&](Cache::scheduler_type const& scheduler) {
    Cache cache(shape, limits, {}, scheduler);
    Driver<Cache> driver(cache, 4);
    StepReport report = driver.step(tokens);
    for (int i = 0; i < steps; ++i) {
      report = driver.step();  // checks the cap
    }
    return report;
  };
  StepReport const kept = last_of(plain);
  StepReport const used = last_of(filling);
  CHECK(used.ledger.resident() > kept.ledger.resident() + free / 8);
  CHECK(used.missed_mass < kept.missed_mass / 2.0F);
  CHECK(used.water_level < plain.none);
  CHECK(used.water_level >= filling.fill * filling.none);
}

// A step may ask for more than a lane's budget holds: then the cuts rise, and what still waits is
// what weighs least. (Were it the newest rows, a lane would miss a fifth of its mass at times.)
TEST_CASE("a tight cap costs the rows that weigh least", "[laws][cache][ladder][water]") {
  Cache::scheduler_type const scheduler{.dense = false};
  constexpr int tokens = 3000;
  constexpr int steps = 160;
  Limits limits = limits_of(tokens + steps + 40);
  limits.resident_bytes = free_bytes(scheduler, tokens, 100) * 5 / 4;
  Cache cache(shape, limits, {}, scheduler);
  Driver<Cache> driver(cache, 4);
  driver.step(tokens);
  float missed = 0.0F;
  float most = 0.0F;
  for (int i = 1; i <= steps; ++i) {
    StepReport const report = driver.step();
    missed += i > 60 ? report.missed_mass : 0.0F;
    most = std::max(most, i > 60 ? report.missed_mass_max : 0.0F);
  }
  CAPTURE(missed, most);
  CHECK(missed / 100.0F < 0.005F);
  CHECK(most < 0.12F);
}

TEST_CASE("another sequence takes its share and gives it back", "[laws][cache][ladder][water]") {
  Cache::scheduler_type const scheduler{.dense = false};
  constexpr int tokens = 3000;
  Limits limits = limits_of(tokens + 300);
  std::size_t const least = least_bytes(limits);
  std::size_t const one = least + (free_bytes(scheduler, tokens, 40) - least) / 5;
  limits.resident_bytes = 2 * one - Cache(shape, limits).memory().scratch_bytes(limits.max_tokens);
  Cache cache(shape, limits, {}, scheduler);
  Driver<Cache> first(cache, 4);
  first.step(tokens);
  auto const run = [&](int steps) {
    std::vector<float> levels;
    for (int i = 0; i < steps; ++i) {
      levels.push_back(first.step().water_level);
    }
    return levels;
  };
  auto const alone = run(48);
  CHECK(alone.back() < scheduler.none);
  Driver<Cache> second(cache, 5);  // from here on half the bytes
  second.step(64);
  std::vector<float> together;
  int bound = 0;
  for (int i = 0; i < 80; ++i) {
    auto const report = first.step();
    together.push_back(report.water_level);
    bound += report.binding == Binding::resident_bytes ? 1 : 0;
    second.step();
  }
  CAPTURE(together);
  std::vector<float> const settled(together.begin() + 32, together.end());
  float const mean = mean_of(settled);
  CHECK(bound > 60);
  CHECK(mean > 1.5F * scheduler.none);
  CHECK(turns(settled, mean) <= 2);
  second.close();
  auto const again = run(33);
  CAPTURE(again);
  CHECK(again.back() < scheduler.none);
}

TEST_CASE("the report says which control binds", "[laws][cache][ladder][water]") {
  Cache::scheduler_type const scheduler{.dense = false};
  auto const last_of = [&](Limits const& limits) {
    Cache cache(shape, limits, {}, scheduler);
    Driver<Cache> driver(cache, 4);
    StepReport report = driver.step(1500);
    for (int i = 0; i < 40; ++i) {
      report = driver.step();
    }
    return report;
  };
  Limits limits = limits_of(1700);
  auto report = last_of(limits);
  CHECK(report.binding == Binding::missed_mass);
  CHECK(report.water_level == scheduler.none);
  CHECK(report.missed_mass > 0.0F);
  limits.resident_bytes = least_bytes(limits) + 20000;
  report = last_of(limits);
  CHECK(report.binding == Binding::resident_bytes);
  CHECK(report.water_level > scheduler.none);
  limits.resident_bytes = unlimited;
  limits.transfer_bytes = 4 * 2 * 64 * 2;  // a row for each lane
  report = last_of(limits);
  CHECK(report.binding == Binding::transfer_bytes);
}
