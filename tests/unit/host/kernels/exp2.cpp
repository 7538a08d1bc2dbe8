#include <kvfreeze/host/kernels/exp2.hpp>

#include <catch2/catch.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace host = kvfreeze::host;

namespace {

double ulps(float got, double exact) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::fabs(static_cast<double>(got) - exact) / std::ldexp(1.0, exponent - 24);
}

}  // namespace

TEST_CASE("exp2 is within two units in the last place") {
  double worst = 0.0;
  for (int i = 0; i <= 126 * 4096; ++i) {
    float const x = static_cast<float>(-i) / 4096.0F;
    worst = std::max(worst, ulps(host::exp2(x), std::exp2(static_cast<double>(x))));
  }
  CHECK(worst < 2.0);
}

TEST_CASE("exp2 is exact at integers and 0 below -126") {
  for (int n = 0; n <= 126; ++n) {
    CHECK(host::exp2(static_cast<float>(-n)) == std::ldexp(1.0F, -n));
  }
  CHECK(host::exp2(-0.0F) == 1.0F);
  CHECK(host::exp2(-126.001F) == 0.0F);
  CHECK(host::exp2(-1e30F) == 0.0F);
  CHECK(host::exp2(-std::numeric_limits<float>::infinity()) == 0.0F);
}

TEST_CASE("exp2 of a vector has the bits of exp2 of its lanes") {
  float const x[16] = {0.0F,    -0.1F,   -0.5F,   -0.75F,
                       -1.0F,   -1.5F,   -3.3F,   -17.0F,
                       -125.9F, -126.0F, -126.1F, -127.0F,
                       -200.0F, -1e9F,   -9.9F,   -std::numeric_limits<float>::infinity()};
  float y[16];
  host::store(y, host::exp2(host::load(x)));
  for (int i = 0; i < 16; ++i) {
    CHECK(std::bit_cast<std::uint32_t>(y[i]) == std::bit_cast<std::uint32_t>(host::exp2(x[i])));
  }
}

TEST_CASE("log2 agrees with the C library") {
  for (double x = 1e-300; x < 1e300; x *= 1.37) {
    CHECK(host::log2(x) == Approx(std::log2(x)).epsilon(1e-14));
  }
  for (int e = -60; e < 60; ++e) {
    CHECK(host::log2(std::ldexp(1.0, e)) == e);
  }
  CHECK(host::log2(1.0000001) == Approx(std::log2(1.0000001)).epsilon(1e-8));
  CHECK(host::log2(8.0F) == 3.0F);
  CHECK(host::log2(0.0F) == -std::numeric_limits<float>::infinity());
}
