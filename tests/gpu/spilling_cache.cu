#include <kvfreeze/gpu/kv_freeze_cache.cuh>
#include <kvfreeze/gpu/presets.cuh>
#include <kvfreeze/gpu/published_presets.cuh>
#include <kvfreeze/gpu/spilling_tier.cuh>
#include <kvfreeze/tier/checksummed.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <gpu/capped.cuh>
#include <gpu/cuda_calls.hpp>
#include <gpu/ladder_twins.cuh>
#include <gpu/ladders.hpp>
#include <gpu/rewinds.cuh>
#include <gpu/rows_twins.cuh>
#include <random>
#include <support/short_tests.hpp>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using gpu::SpillingTier;

using Lower = FaultInjecting<Checksummed<HostTier>>;
constexpr std::uint32_t block_granules = 4;

/// A cache whose tier has pinned memory for so many blocks of four granules of fp16.
template <class L, class Scorer, class Scheduler, class Trigger, std::size_t Blocks>
class Spilling : public gpu::KvFreezeCache<L, Scorer, Scheduler, Trigger, SpillingTier<Lower>> {
  using Base = gpu::KvFreezeCache<L, Scorer, Scheduler, Trigger, SpillingTier<Lower>>;
  static constexpr std::size_t block_rows =
      block_granules * (L::compact_rows::levels > 0 ? 1 : L::page_tokens);

 public:
  explicit Spilling(Shape const& shape, Limits const& limits, Scheduler const& scheduler = {},
                    Trigger const& trigger = {}, Scorer const& scorer = {})
      : Base(shape, limits, scheduler, trigger, scorer,
             {{.cache_bytes = Blocks * block_rows * 2 * 64 * sizeof(Half) *
                              (L::grouping == Grouping::layer ? 2 : 1),
               .block_granules = block_granules,
               .most_misses = 512},
              Lower()}) {}
};

using LadderLayout = Layout<Half, 1, Grouping::kv_head, LadderRows, 64, 4>;

template <std::size_t Blocks>
using SpillingLadder =
    Spilling<LadderLayout, ScreenedMass, LadderScheduler<>, NeverTrigger, Blocks>;

/// Moves are frequent.
LadderScheduler<> restless() {
  auto scheduler = ladder();
  scheduler.stay = 1;
  scheduler.every = 1;
  return scheduler;
}

/// Tries again until the lower tier does not fail. @return how often it did
template <class F>
int insist(F const& f) {
  for (int failures = 0;; ++failures) {
    try {
      f();
      return failures;
    } catch (TierError const&) {
      REQUIRE(failures < 50);
    }
  }
}

/// A cache whose one sequence has read a prompt.
template <std::size_t Blocks>
struct Prompted {
  using Cache = SpillingLadder<Blocks>;

  Prompted(unsigned seed, int chunks, int chunk, int most_tokens = 320)
      : cache(small, capped_limits(most_tokens, 1), restless()), driver(cache, seed) {
    for (int i = 0; i < chunks; ++i) {
      driver.prefill(chunk);
    }
  }

  /// @param meanwhile called before each layer
  template <class F>
  void step(F const& meanwhile) {
    Driver<Cache>::step({&driver}, meanwhile);
  }

  void step() { Driver<Cache>::step({&driver}); }

  Cache cache;
  Driver<Cache> driver;
};

struct Lived {
  std::uint64_t deferred = 0;
  std::uint64_t thawed = 0;
  int failures = 0;
};

/// @brief A sequence lives on while its rows come and go: they are what they were, whatever is
/// asked, and protected ones are exact.
/// @param group rows of a digest
/// @param fails does the lower tier now and then?
template <class Cache>
Lived live(Cache& cache, std::size_t group, bool fails = false) {
  Driver<Cache> driver(cache, 3);
  std::mt19937 random(11);
  Lived lived;
  int const tokens = kvfreeze_test::short_tests() ? 200 : 320;
  while (driver.length() + 6 <= tokens) {
    if (fails && random() % 2 == 0) {
      cache.tier().lower().arm({.call = 1 + random() % 3});
    }
    auto const what = random() % 16;
    if (what < 3 && driver.length() + 40 <= tokens) {
      int const chunk = 1 + static_cast<int>(random() % 40);
      lived.failures += insist([&] { driver.prefill(chunk); });
    } else if (what == 3 && driver.length() > 80) {
      int const length = driver.length() - static_cast<int>(random() % 40);
      lived.failures += insist([&] { driver.truncate(length); });
    } else if (what == 4) {
      driver.pin({{driver.length() / 2, driver.length() / 2 + 3}});
    } else if (what == 5 && cache.limits().resident_bytes == unlimited) {
      lived.failures += insist([&] { driver.thaw(); });
      auto const found = driver.fidelities();
      REQUIRE(
          std::all_of(found.begin(), found.end(), [](Fidelity f) { return f == Fidelity::exact; }));
    } else {
      for (int i = 0; i < 6; ++i) {
        lived.failures += insist([&] { Driver<Cache>::step({&driver}); });
        StepReport const report = driver.report();
        lived.deferred += report.deferred_rows;
        lived.thawed += report.thawed_rows;
      }
      driver.check_report();
    }
    lived.failures += insist([&] { driver.check(group); });
  }
  CHECK(cache.tier().counts().stored > 0);
  CHECK(cache.tier().counts().loaded > 0);
  CHECK(cache.tier().counts().missed > 0);
  return lived;
}

template <std::size_t Blocks>
using RewindingLadder =
    Spilling<LadderLayout, ScreenedMass, LadderScheduler<>, EntropyLadderTrigger, Blocks>;

/// @brief A sequence with a prompt goes back again and again; its engine is late at times. Rows are
/// what they were.
/// @param group rows of a digest
template <class Cache>
void go_back_and_on(Cache& cache, std::size_t group) {
  Driver<Cache> driver(cache, 3);
  std::mt19937 random(12);
  for (int i = 0; i < 4; ++i) {
    driver.prefill(40);
  }
  int const rewinds = kvfreeze_test::short_tests() ? 3 : 4;
  int seen = 0;
  int calm = 20;
  std::uint64_t thawed = 0;
  auto const step = [&](bool trouble) {
    Driver<Cache>::step({&driver}, [] {}, logits_of(random, trouble));
    thawed += driver.report().thawed_rows;
  };
  for (int i = 0; i < 140 && seen < rewinds; ++i) {
    step(--calm < 0);
    if (!driver.report().rewind_to) {
      continue;
    }
    for (int late = 0; late < seen % 3; ++late) {
      step(true);
    }
    int const length = *driver.report().rewind_to;
    CHECK(length < driver.length());
    driver.truncate(length);
    driver.check(group);
    seen += 1;
    calm = 15;
  }
  CHECK(seen == rewinds);
  driver.check(group);
  CHECK(thawed > 0);
  CHECK(cache.tier().counts().missed > 0);
  CHECK(cache.tier().counts().loaded > 0);
}

}  // namespace

TEST_CASE("With room for all rows the decisions are those of the host", "[spilling]") {
  Twins<SpillingLadder<1400>> twins(
      make_ladder_twin<Half>(small, limits_of(256, 2), restless(), NeverTrigger{}), small,
      limits_of(256, 2), restless(), NeverTrigger{});
  std::size_t const second = cut_pin_and_reset(twins, kvfreeze_test::short_tests() ? 2 : 4, 28, 25);
  read_prompt(twins, second);
  for (int i = 0; i < 10; ++i) {
    twins.replay({second});
  }
  CHECK(twins.device().tier().counts().missed == 0);
  twins.close(second);
  twins.step({decode_new(twins, 5, 8)});
}

TEST_CASE("Ladder: rows come back from the lower tier, and are what they were", "[spilling]") {
  SpillingLadder<100> cache(small, capped_limits(320, 1), restless());
  Lived const lived = live(cache, 32);
  CHECK(lived.deferred > 0);
  CHECK(lived.thawed > 0);
}

TEST_CASE("A lower tier that fails costs no row", "[spilling]") {
  SpillingLadder<100> cache(small, capped_limits(320, 1), restless());
  Lived const lived = live(cache, 32, true);
  CHECK(lived.failures > 5);
}

TEST_CASE("Rows that cannot be given in the middle of a step cost it nothing", "[spilling]") {
  Prompted<125> prompted(12, 4, 30);
  auto& [cache, driver] = prompted;
  int failures = 0;
  std::uint64_t thawed = 0;
  for (int i = 0; i < 20; ++i) {
    prompted.step([&] {
      for (int layer = 0; layer < 2; ++layer) {
        cache.tier().lower().arm({.call = 2, .in_store = false});
        try {
          driver.gather(layer);
        } catch (TierError const&) {
          failures += 1;
        }
      }
      cache.tier().lower().disarm();
    });
    thawed += driver.report().thawed_rows;
    driver.check(32);
  }
  CHECK(thawed > 0);
  CHECK(failures > 3);
}

TEST_CASE("Under budgets of bytes and of transfers rows come back too", "[spilling]") {
  using Cache = SpillingLadder<100>;
  Limits limits = capped_limits(320, 1);
  std::size_t const row = 2 * 64 * sizeof(Half);
  limits.resident_bytes = least_cap<Cache>(limits, restless()) + 320 * row;
  limits.transfer_bytes = 3 * capped_lanes * row;
  Cache cache(small, limits, restless());
  CHECK(live(cache, 32).deferred > 0);
}

TEST_CASE("What sleeps in granules of four, in layers", "[spilling]") {
  Spilling<Layout<Half, 4, Grouping::layer, LadderRows, 64, 4>, ScreenedMass, LadderScheduler<true>,
           NeverTrigger, 100>
      cache(small, capped_limits(320, 1), sleepy());
  CHECK(live(cache, 32).thawed > 0);
}

TEST_CASE("By ranks: rows come back from the lower tier", "[spilling]") {
  using Ranks = gpu::presets::ArkvRecalled<Half, SequenceShares, 64, 4>;
  Spilling<Ranks::layout_type, ScreenedMass, Ranks::scheduler_type, NeverTrigger, 100> cache(
      small, capped_limits(320, 1), {.kept = 0.5F, .exact = 0.2F, .stay = 1, .every = 1});
  Lived const lived = live(cache, 32);
  CHECK(lived.deferred > 0);
  CHECK(lived.thawed > 0);
}

TEST_CASE("Water level: granules of four come back from the lower tier", "[spilling]") {
  Spilling<Layout<Half, 4>, InstantMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
           MissedMassTrigger, 34>
      cache(small, capped_limits(320, 1), busy(), impatient());
  Lived const lived = live(cache, 32);
  CHECK(lived.deferred > 0);
  CHECK(lived.thawed > 0);
}

TEST_CASE("Without a digest rows come back when they are due", "[spilling]") {
  SublinearScheduler<> scheduler;
  Spilling<Layout<Half>, RecencyScorer, SublinearScheduler<>, NeverTrigger, 100> cache(
      small, capped_limits(320, 1), scheduler);
  CHECK(live(cache, 1).thawed > 0);
}

TEST_CASE("Steps go back as on the host where there is room for all rows", "[spilling]") {
  Limits const limits = limits_of(320, 2);
  Twins<RewindingLadder<1400>> twins(make_ladder_twin<Half>(small, limits, ladder(), hasty(6)),
                                     small, limits, ladder(), hasty(6));
  live(twins, twins.open(15), 2, 0, 16);
  live(twins, twins.open(17), 1, 3, 18);
  CHECK(twins.device().tier().counts().missed == 0);
}

TEST_CASE("Ladder: what a step that goes back needs is in pinned memory", "[spilling]") {
  RewindingLadder<170> cache(small, capped_limits(320, 1), restless(), hasty(6));
  go_back_and_on(cache, 32);
}

TEST_CASE("AsrKfEgr: what a step that goes back needs is in pinned memory", "[spilling]") {
  using Scorer = MeanAbsDotScorer<KeyCodes<4>>;
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  Spilling<Layout<Half>, Scorer, SublinearScheduler<Thaw::lazy>, EntropyLadderTrigger, 200> cache(
      small, capped_limits(320, 1), scheduler, hasty(6), Scorer{.window = 8});
  go_back_and_on(cache, KeyCodes<4>::group_rows);
}

TEST_CASE("Uniform codes of rows that are below are made when they are here", "[spilling]") {
  using Uniform = gpu::presets::UniformQuantised<4, Half, 64>;
  Spilling<Uniform::layout_type, InstantMassScorer<KeyCodes<4>>, UniformScheduler, NeverTrigger,
           100>
      cache(small, capped_limits(320, 1));
  live(cache, 1);
}

TEST_CASE("Pinned rows that are below are exact some steps later", "[spilling]") {
  Prompted<90> prompted(5, 8, 32);
  auto& [cache, driver] = prompted;
  for (int i = 0; i < 6; ++i) {
    prompted.step();
  }
  driver.pin({{8, 12}, {40, 44}});
  auto const are_exact = [&] {
    auto const found = driver.fidelities();
    auto const rows = static_cast<std::size_t>(driver.length());
    bool exact = true;
    for (std::size_t lane = 0; lane < capped_lanes; ++lane) {
      for (std::size_t const i : {8U, 11U, 40U, 43U}) {
        exact = exact && found[lane * rows + i] == Fidelity::exact;
      }
    }
    return exact;
  };
  int steps = 0;
  do {
    prompted.step();
    static_cast<void>(cache.tier().lower());  // time for the thread
    steps += 1;
  } while (!are_exact() && steps < 12);
  CHECK(are_exact());
  CHECK(steps > 1);
  driver.check(32);
}

TEST_CASE("Nobody waits for steps, and some that begin are given up", "[spilling]") {
  SpillingLadder<120> cache(small, capped_limits(256, 3), restless());
  gpu::test::Stream stream;
  std::array const batch{cache.open(stream), cache.open(stream)};
  std::array<Model, 2> models{Model(small, 1), Model(small, 2)};
  // Layers have the same rows.
  std::array<std::vector<float>, 2> keys;
  std::array<std::vector<float>, 2> values;
  int const steps = kvfreeze_test::short_tests() ? 90 : 180;
  std::vector<gpu::DeviceArray<float>> inputs;
  for (int i = 0; i < steps; ++i) {
    std::vector<float> all[3];
    for (std::size_t sequence = 0; sequence < 2; ++sequence) {
      std::vector<float> q;
      std::vector<float> k;
      std::vector<float> v;
      models[sequence].step(q, k, v);
      keys[sequence].insert(keys[sequence].end(), k.begin(), k.end());
      values[sequence].insert(values[sequence].end(), v.begin(), v.end());
      std::vector<float> const* const parts[3] = {&q, &k, &v};
      for (std::size_t part = 0; part < 3; ++part) {
        all[part].insert(all[part].end(), parts[part]->begin(), parts[part]->end());
      }
    }
    for (auto const& part : all) {
      inputs.push_back(upload(part));
    }
  }
  gpu::DeviceArray<float> const out(2 * 6 * 64);
  Sequence const third = cache.open(stream);
  auto const queries = filled<float>(64 * 6 * 64, 0.5F);
  auto const prompt = filled<float>(64 * 2 * 64, 0.25F);
  cache.begin_prefill_async(third, 64, stream);
  for (int layer = 0; layer < 2; ++layer) {
    cache.prefill_async<float>(layer, queries, prompt, prompt, stream);
  }
  cache.advance_async(stream);
  for (std::size_t i = 0; i < inputs.size(); i += 3) {
    if (i % 27 == 24) {
      cache.begin_prefill_async(batch[i % 2], 20, stream);
    }
    cache.begin_async(batch, stream);
    for (int layer = 0; layer < 2; ++layer) {
      cache.attend_async<float>(layer, inputs[i], inputs[i + 1], inputs[i + 2], out, stream);
      if (layer == 0 && i % 12 == 0 && cache.length(third) > 20) {
        cache.truncate_async(third, cache.length(third) - 3, stream);
      }
    }
    cache.advance_async(stream);
  }
  for (std::size_t sequence = 0; sequence < 2; ++sequence) {
    for (int layer = 0; layer < 2; ++layer) {
      gpu::DeviceArray<Half> const k(keys[sequence].size());
      gpu::DeviceArray<Half> const v(k.size());
      cache.gather_async(batch[sequence], layer, k.span(), v.span(), stream);
      CHECK(same_rows(download(k, stream), keys[sequence]));
      CHECK(same_rows(download(v, stream), values[sequence]));
    }
  }
  CHECK(cache.tier().counts().missed > 0);
  CHECK(cache.tier().counts().loaded > 0);
}

TEST_CASE("A launch of begin_async() that fails costs a call", "[spilling]") {
  Prompted<100> prompted(9, 5, 30);
  for (int i = 0; i < 18; ++i) {  // of the tier's end of a step, its beginning, the batch
    {
      CudaFault const fault(Calls::launches, 1 + i % 3, cudaErrorLaunchFailure);
      CHECK_THROWS_AS(prompted.step(), gpu::CudaError);
    }
    prompted.step();
  }
  prompted.driver.check(32);
}

TEST_CASE("A step's cost for the tier is two launches", "[spilling]") {
  Twins<SpillingLadder<1400>> twins(
      make_ladder_twin<Half>(small, limits_of(256, 1), restless(), NeverTrigger{}), small,
      limits_of(256, 1), restless(), NeverTrigger{});
  std::size_t const sequence = decode_new(twins, 70, 3);
  check_launches(twins, sequence, 3, 3 + 2);
}

TEST_CASE("A replay that begin_async() does not precede is refused, and so is its capture",
          "[spilling]") {
  using Cache = SpillingLadder<100>;
  Cache cache(small, capped_limits(64, 1), restless());
  gpu::test::Stream stream;
  Sequence const sequence = cache.open(stream);
  std::array const batch{sequence};
  auto const q = filled<float>(6 * 64, 0.5F);
  auto const k = filled<float>(2 * 64, 0.25F);
  gpu::DeviceArray<float> const out(q.size());
  Graph const refused(stream,
                      [&] { CHECK_THROWS_AS(cache.begin_async(batch, stream), InvalidArgument); });
  cache.begin_async(batch, stream);
  Graph step;
  step.capture(stream, [&] {
    for (int layer = 0; layer < 2; ++layer) {
      cache.attend_async<float>(layer, q, k, k, out, stream);
    }
    cache.advance_async(stream);
  });
  step.launch(stream);
  for (int i = 0; i < 3; ++i) {  // within the block that has been begun
    step.launch(stream);
    cache.count_replay();
  }
  stream.wait();
  CHECK(cache.report(sequence).length == 4);
  step.launch(stream);
  stream.wait();
  CHECK_THROWS_AS(cache.begin_async(batch, stream), InvalidArgument);
}

TEST_CASE("Settings that do not suit the cache are refused with the numbers", "[spilling]") {
  using Cache = gpu::KvFreezeCache<LadderLayout, ScreenedMass, LadderScheduler<>, NeverTrigger,
                                   SpillingTier<>>;
  auto const make = [](gpu::SpillingTierOptions const& options) {
    Cache const cache(small, capped_limits(320, 3), {}, {}, {}, {options});
  };
  try {
    make({.cache_bytes = 4096});
    FAIL("too little pinned memory");
  } catch (CapacityError const& error) {
    CHECK(error.needed() > 4096);
    CHECK_NOTHROW(make({.cache_bytes = error.needed()}));
    CHECK_THROWS_AS(make({.cache_bytes = error.needed() - 1}), CapacityError);
  }
  CHECK_THROWS_AS(make({.block_granules = 3}), InvalidArgument);
  using Granules =
      gpu::KvFreezeCache<Layout<Half, 16, Grouping::kv_head, LadderRows, 64, 4>, ScreenedMass,
                         LadderScheduler<>, NeverTrigger, SpillingTier<>>;
  CHECK_THROWS_AS(
      Granules(small, capped_limits(320, 1), {}, {}, {}, {{.block_granules = 8}, HostTier()}),
      InvalidArgument);
}

TEST_CASE("Pinned memory of a cache may be bounded without a lower tier", "[spilling]") {
  using Cache = gpu::KvFreezeCache<LadderLayout, ScreenedMass, LadderScheduler<>, NeverTrigger>;
  std::size_t const rows = 320 * capped_lanes * 2 * 64 * sizeof(Half);
  gpu::PinnedTierOptions const options{.capacity_bytes = rows + rows / 2};
  Cache cache(small, capped_limits(320, 2), {}, {}, {}, options);
  gpu::test::Stream stream;
  Sequence const first = cache.open(stream);
  CHECK_THROWS_AS(cache.open(stream), CapacityError);
  cache.close(first, stream);
  CHECK_NOTHROW(cache.open(stream));
}

TEST_CASE("Rows that no pinned memory holds together are asked for in vain", "[spilling]") {
  Prompted<90> prompted(6, 12, 33, 512);
  auto& driver = prompted.driver;
  CHECK_THROWS_AS(driver.thaw(), CapacityError);
  CHECK_THROWS_AS(driver.prefill(100), CapacityError);  // 25 blocks of each of four lanes
  driver.truncate(300);
  driver.thaw();
  driver.check(32);
}
