#include <kvfreeze/detail/running_moments.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using kvfreeze::detail::RunningMoments;

TEST_CASE("running moments begin as the plain mean and variance", "[detail]") {
  RunningMoments moments;
  for (float const x : {2.0F, 4.0F, 4.0F, 4.0F, 5.0F, 5.0F, 7.0F, 9.0F}) {
    moments.learn(x, 0.99F);
  }
  REQUIRE(moments.mean == Approx(5.0));
  REQUIRE(moments.variance == Approx(4.0));
  REQUIRE(moments.beyond(4.1F, 2.0F));
  REQUIRE_FALSE(moments.beyond(3.9F, 2.0F));
}

TEST_CASE("running moments forget at their rate", "[detail]") {
  float const decay = 0.9F;
  RunningMoments moments;
  for (int i = 0; i < 1000; ++i) {
    moments.learn(1.0F, decay);
  }
  for (int n = 1; n < 60;
       ++n) {  // after a step of 1 to 3: mean 3 - 2·.9^n, variance 4·.9^n(1-.9^n)
    moments.learn(3.0F, decay);
    double const rest = std::pow(0.9, n);
    REQUIRE(moments.mean == Approx(3.0 - 2.0 * rest).epsilon(1e-4));
    REQUIRE(moments.variance == Approx(4.0 * rest * (1.0 - rest)).epsilon(1e-3).margin(1e-5));
  }
}
