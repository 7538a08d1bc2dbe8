#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/scheduler/sublinear_scheduler.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace kvfreeze;

TEST_CASE("sleep reaches each length at the published count", "[scheduler]") {
  struct Line {
    float k;
    int d1, d2, d3, d4, d8, d16;
  };

  for (Line const& line :
       {Line{1, 1, 4, 9, 16, 64, 256}, Line{2, 4, 16, 36, 64, 256, 1024},
        Line{3, 9, 36, 81, 144, 576, 2304}, Line{4, 16, 64, 144, 256, 1024, 4096}}) {
    SublinearScheduler<> const scheduler{.softness = line.k};
    auto const first = [&](int detections, int sleep) {
      REQUIRE(scheduler.sleep(detections) == sleep);
      REQUIRE(scheduler.sleep(detections - 1) == sleep - 1);
    };
    first(line.d1, 1);
    first(line.d2, 2);
    first(line.d3, 3);
    first(line.d4, 4);
    first(line.d8, 8);
    first(line.d16, 16);
  }
}

TEST_CASE("no detection, no sleep; and no overflow", "[scheduler]") {
  SublinearScheduler<> const scheduler{.softness = 1.0F};
  REQUIRE(scheduler.sleep(0) == 0);
  REQUIRE(scheduler.sleep(-5) == 0);
  REQUIRE(scheduler.sleep(65535) == 255);
  REQUIRE(scheduler.sleep(2147483647) == 46340);
}

TEST_CASE("an always-low granule is detected as often as the closed form says", "[scheduler]") {
  SublinearScheduler<> const scheduler{.softness = 1.0F};
  int const horizon = 10000;
  int detections = 0;
  for (int step = 0; step < horizon; ++step) {
    detections = scheduler.count(detections, true, 1);
    step += scheduler.sleep(detections);
  }
  // c(T) = (1.5 k T)^(2/3) = 608, less the step at which each verdict is made.
  REQUIRE(detections == Approx(std::pow(1.5 * horizon, 2.0 / 3.0)).epsilon(0.06));
}

TEST_CASE("detections add up, fade and lapse", "[scheduler]") {
  SublinearScheduler<> const scheduler{.history = 10, .forgive = 0.5F};
  REQUIRE(scheduler.count(7, true, 3) == 8);
  REQUIRE(scheduler.count(7, true, 10) == 8);
  REQUIRE(scheduler.count(7, true, 11) == 1);
  REQUIRE(scheduler.count(7, false, 3) == 3);
  REQUIRE(scheduler.count(1, false, 3) == 0);
  REQUIRE(scheduler.count(7, false, 11) == 0);
  REQUIRE(scheduler.count(65535, true, 1) == 65535);
  SublinearScheduler<> const strict{.forgive = 1.0F};
  REQUIRE(strict.count(65535, false, 1) == 65535);
}

TEST_CASE("the threshold is a number or a quantile", "[scheduler]") {
  Selection const quantile = SublinearScheduler<>{.quantile = 0.25F}.retain({});
  REQUIRE(quantile.kind == Selection::Kind::quantile);
  REQUIRE(quantile.value == 0.25F);
  Selection const above = SublinearScheduler<>{.threshold = 0.0F}.retain({});
  REQUIRE(above.kind == Selection::Kind::above);
  REQUIRE(above.value == 0.0F);
}

TEST_CASE("eager thaws whatever is due, lazy asks", "[scheduler]") {
  REQUIRE(SublinearScheduler<Thaw::eager>{}.recall({}).kind == Selection::Kind::all);
  REQUIRE(SublinearScheduler<Thaw::lazy>{}.recall({}).kind == Selection::Kind::quantile);
  REQUIRE(detail::is_eager<SublinearScheduler<Thaw::eager>>());
  REQUIRE_FALSE(detail::is_eager<SublinearScheduler<>>());
  REQUIRE(detail::is_timed<SublinearScheduler<>>());
  REQUIRE(detail::has_sleep<SublinearScheduler<>>());
  REQUIRE(detail::slow_period(SublinearScheduler<>{.period_steps = 4}) == 4);
}

TEST_CASE("the sublinear scheduler rejects fields out of range", "[scheduler]") {
  using S = SublinearScheduler<>;
  REQUIRE_THROWS_AS(S{.softness = 0.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(S{.softness = NAN}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(S{.threshold = NAN}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(S{.quantile = 1.1F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(S{.history = 0}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(S{.forgive = -1.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(S{.period_steps = 0}.validate(), InvalidArgument);
  REQUIRE_THROWS_WITH(S{.history = -3}.validate(),
                      Catch::Contains("SublinearScheduler::history = -3"));
}
