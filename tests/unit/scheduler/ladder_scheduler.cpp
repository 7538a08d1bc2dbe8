#include <kvfreeze/error.hpp>
#include <kvfreeze/presets.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scheduler/uniform_scheduler.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <string>

using namespace kvfreeze;
using Catch::Contains;
using Kind = Selection::Kind;

namespace {

void rejects(LadderScheduler<> const& scheduler, std::string const& field,
             std::string const& number) {
  CAPTURE(field, number);
  try {
    scheduler.validate();
    FAIL("accepted");
  } catch (InvalidArgument const& error) {
    REQUIRE_THAT(error.what(), Contains("LadderScheduler::" + field) && Contains(number));
  }
}

}  // namespace

TEST_CASE("rungs are the thresholds, raised together by the water level", "[scheduler][ladder]") {
  LadderScheduler<> const scheduler{.none = 0.02F, .first = 0.1F, .second = 0.3F, .third = 0.9F};
  Rungs const slack = scheduler.rungs({});
  CHECK(slack.frozen == 0.02F);
  CHECK(slack.compact == std::array<float, 3>{0.1F, 0.3F, 0.9F});
  CHECK(scheduler.rungs({.water_level = 0.001F}).frozen == 0.002F);  // never below `fill` of them
  Rungs const raised = scheduler.rungs({.water_level = 0.04F});
  CHECK(raised.frozen == Approx(0.04F));
  CHECK(raised.compact[0] == Approx(0.2F));
  CHECK(raised.compact[1] == Approx(0.6F));
  CHECK(raised.compact[2] == 1.0F);
  Rungs const highest = scheduler.rungs({.water_level = 1.0F});
  CHECK(highest.frozen == 1.0F);
  CHECK(highest.compact == std::array<float, 3>{1.0F, 1.0F, 1.0F});
  CHECK(detail::base_level(scheduler) == 0.02F);
}

TEST_CASE("under a cap a ladder begins lower, to use it", "[scheduler][ladder]") {
  LadderScheduler<> const scheduler{.none = 0.02F, .first = 0.1F, .fill = 0.25F};
  CHECK(scheduler.rungs({}).frozen == 0.02F);
  Rungs const slack = scheduler.rungs({.allowed = 100});
  CHECK(slack.frozen == 0.005F);
  CHECK(slack.compact[0] == 0.025F);
  CHECK(slack.compact[2] == 1.0F);  // nothing that may freeze is exact, as without a cap
  CHECK(scheduler.rungs({.allowed = 100, .water_level = 0.01F}).frozen == Approx(0.01F));
  CHECK(scheduler.rungs({.allowed = 100, .water_level = 0.04F}).compact[0] == Approx(0.2F));
  CHECK(detail::base_level(scheduler) == 0.02F);
  CHECK(detail::capped_level(scheduler) == 0.005F);
  CHECK(detail::capped_level(LadderScheduler<>{}) < LadderScheduler<>{}.none);
  CHECK(detail::capped_level(LadderScheduler<>{.fill = 1.0F}) == LadderScheduler<>{}.none);
  rejects({.fill = 0.0F}, "fill", "0.0");
  rejects({.fill = 1.5F}, "fill", "1.5");
}

TEST_CASE("rungs ascend at any water level", "[scheduler][ladder]") {
  LadderScheduler<> const scheduler;
  Rungs before = scheduler.rungs({.water_level = 1e-4F});
  for (int i = 1; i <= 1000; ++i) {
    Rungs const rungs = scheduler.rungs({.water_level = static_cast<float>(i) * 1e-3F});
    REQUIRE(rungs.frozen >= before.frozen);
    REQUIRE(rungs.frozen <= rungs.compact[0]);
    for (std::size_t level = 0; level < 3; ++level) {
      REQUIRE(rungs.compact[level] >= before.compact[level]);
      REQUIRE(rungs.compact[level] <= 1.0F);
      REQUIRE((level == 0 || rungs.compact[level] >= rungs.compact[level - 1]));
    }
    before = rungs;
  }
}

TEST_CASE("nothing to attend to is no threshold to lift", "[scheduler][ladder]") {
  LadderScheduler<> const scheduler{.none = 0.0F, .first = 0.1F};
  Rungs const rungs = scheduler.rungs({.water_level = 0.5F});
  CHECK(std::isfinite(rungs.frozen));
  CHECK(rungs.compact[0] <= 1.0F);
}

TEST_CASE("a ladder selects by mass, keeps for some steps and sleeps by detections",
          "[scheduler][ladder]") {
  LadderScheduler<> const scheduler{.none = 0.03F, .stay = 7, .dense = false};
  CHECK(scheduler.recall({.granules = 10}).kind == Kind::mass);
  CHECK(scheduler.recall({.granules = 10}).value == 0.03F);
  CHECK(scheduler.retain({.granules = 10}).kind == Kind::recent);
  CHECK(scheduler.retain({.granules = 10}).count == 7);
  CHECK(scheduler.sleep(65535) == 0);
  CHECK(LadderScheduler<true>{.softness = 2.0F}.sleep(16) == 2);
  CHECK(LadderScheduler<true>{.softness = 2.0F}.sleep(0) == 0);
  CHECK(detail::has_sleep<LadderScheduler<true>>());
  CHECK_FALSE(detail::has_sleep<LadderScheduler<>>());
}

TEST_CASE("a dense lane keeps all while the cap leaves it alone", "[scheduler][ladder]") {
  LadderScheduler<> const scheduler;
  CHECK(scheduler.recall({.granules = 100, .ladder_cost = 1.5F}).kind == Kind::all);
  CHECK(scheduler.retain({.granules = 100, .ladder_cost = 1.5F}).kind == Kind::all);
  CHECK(scheduler.recall({.granules = 100, .ladder_cost = 0.9F}).kind == Kind::mass);
  CHECK(scheduler.recall({.granules = 100, .allowed = 100, .ladder_cost = 1.5F}).kind ==
        Kind::mass);
}

TEST_CASE("a ladder's fields out of range are named with their numbers", "[scheduler][ladder]") {
  float const nan = std::nanf("");
  CHECK_NOTHROW(LadderScheduler<>{}.validate());
  rejects({.none = -0.5F}, "none", "-0.5");
  rejects({.none = 1.5F}, "none", "1.5");
  rejects({.none = nan}, "none", "nan");
  rejects({.first = 1.25F}, "first", "1.25");
  rejects({.first = nan}, "first", "nan");
  rejects({.second = -1.0F}, "second", "-1");
  rejects({.second = nan}, "second", "nan");
  rejects({.third = 2.0F}, "third", "2");
  rejects({.third = std::numeric_limits<float>::infinity()}, "third", "inf");
  rejects({.stay = 0}, "stay", "0");
  rejects({.stay = 40000}, "stay", "40000");
  rejects({.every = 0}, "every", "0");
  rejects({.every = 1025}, "every", "1025");
  rejects({.hold = 1.5F}, "hold", "1.5");
  rejects({.hold = nan}, "hold", "nan");
  CHECK_THROWS_AS(LadderScheduler<>{.softness = 1.0F}.validate(), InvalidArgument);
  CHECK_THROWS_AS(LadderScheduler<true>{.softness = 1e-9F}.validate(), InvalidArgument);
  CHECK_NOTHROW(LadderScheduler<true>{.softness = 1.0F}.validate());
}

TEMPLATE_TEST_CASE("thresholds that do not ascend are refused by the cache, with both",
                   "[scheduler][ladder]", presets::KvFreeze<>, presets::KvFreeze<float>) {
  Shape const shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16};
  auto const rejected = [&](LadderScheduler<> const& scheduler, std::string const& lower,
                            std::string const& upper) {
    try {
      TestType const cache(shape, {}, {}, scheduler);
      FAIL("accepted");
    } catch (InvalidArgument const& error) {
      CHECK_THAT(error.what(), Contains("ascend") && Contains(lower) && Contains(upper));
    }
  };
  rejected({.none = 0.5F, .first = 0.25F}, "0.25", "0.5");
  rejected({.none = 0.0F, .first = 0.75F, .second = 0.5F}, "0.5", "0.75");
  CHECK_NOTHROW(TestType(shape, {}, {}, {.none = 0.1F, .first = 0.1F, .second = 0.1F}));
}

TEST_CASE("the uniform scheduler has one rung for all", "[scheduler][ladder]") {
  UniformScheduler const scheduler;
  CHECK(detail::is_uniform<UniformScheduler>());
  CHECK_FALSE(detail::is_uniform<LadderScheduler<>>());
  CHECK(scheduler.rungs({.water_level = 0.4F}).frozen == 0.0F);
  CHECK(scheduler.rungs({}).compact[0] == 1.0F);
  CHECK(scheduler.recall({}).kind == Kind::none);
}
