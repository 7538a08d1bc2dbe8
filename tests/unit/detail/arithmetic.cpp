#include <kvfreeze/detail/arithmetic.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace kvfreeze::detail;

namespace {

/// d·k ≤ √n, for d·k exact in double (48 bits): the square's rounding error is known by fma.
bool at_most_root(std::int64_t d, float k, std::uint32_t n) {
  double const product = static_cast<double>(d) * static_cast<double>(k);
  double const square = product * product;
  double const error = std::fma(product, product, -square);
  return (square - static_cast<double>(n)) + error <= 0.0;
}

bool is_floor(std::uint32_t n, float k) {
  std::int64_t const d = floor_sqrt_over(n, k);
  return d >= 0 && at_most_root(d, k, n) && !at_most_root(d + 1, k, n);
}

}  // namespace

TEST_CASE("the root over a divisor is exact for every count of detections", "[detail]") {
  for (float const k : {1.0F, 2.0F, 3.0F, 4.0F, 0.5F, 0.3F, 1.7F, 2.5F, 0x1.000002p0F,
                        0x1.fffffep0F, 1.41421356F, 0x1p-8F, 100.3F, 0x1p16F}) {
    bool exact = true;
    for (std::uint32_t n = 0; n <= 65536; ++n) {
      exact = exact && is_floor(n, k);
    }
    INFO("k = " << k);
    REQUIRE(exact);
  }
}

TEST_CASE("the root is exact at the ends and around squares", "[detail]") {
  for (std::uint32_t root = 1; root <= 65535; root += 37) {
    REQUIRE(floor_sqrt_over(root * root, 1.0F) == static_cast<std::int32_t>(root));
    REQUIRE(floor_sqrt_over(root * root - 1, 1.0F) == static_cast<std::int32_t>(root - 1));
  }
  REQUIRE(floor_sqrt_over(std::numeric_limits<std::uint32_t>::max(), 1.0F) == 65535);
  REQUIRE(is_floor(std::numeric_limits<std::uint32_t>::max(), 0x1.000002p-8F));
  static_assert(floor_sqrt_over(16, 2.0F) == 2);
}

TEST_CASE("a share of a whole is never more than the whole", "[detail]") {
  int const most = std::numeric_limits<int>::max();
  REQUIRE(share_of(1.0F, most) == most);
  REQUIRE(share_of(0.5F, 7) == 3);
  REQUIRE(share_of(0.0F, most) == 0);
  REQUIRE(share_of(1.0F, 0) == 0);
  REQUIRE(share_of(0x1.fffffep-1F, most) < most);
}

TEST_CASE("fused rounds once", "[detail]") {
  float const a = 0x1.000002p0F;
  REQUIRE(fused(a, a, -0x1.000004p0F) == 0x1p-46F);
  REQUIRE(quotient(1.0F, 3.0F) == 1.0F / 3.0F);
  REQUIRE(is_finite(0.0F));
  REQUIRE_FALSE(is_finite(std::numeric_limits<float>::infinity()));
  REQUIRE_FALSE(is_finite(std::numeric_limits<float>::quiet_NaN()));
}
