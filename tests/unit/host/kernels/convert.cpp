#include <kvfreeze/host/kernels/convert.hpp>

#include <catch2/catch.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace host = kvfreeze::host;
using kvfreeze::BFloat16;
using kvfreeze::Half;

TEMPLATE_TEST_CASE("Every 16-bit pattern widens as element.hpp says", "", Half, BFloat16) {
  std::vector<TestType> in(65536);
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i].bits = static_cast<std::uint16_t>(i);
  }
  std::vector<float> out(in.size());
  host::to_floats(in.data(), out.data(), in.size());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    wrong += std::bit_cast<std::uint32_t>(out[i]) !=
                     std::bit_cast<std::uint32_t>(kvfreeze::to_float(in[i]))
                 ? 1U
                 : 0U;
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("Floats narrow as element.hpp says", "", Half, BFloat16) {
  std::mt19937 random(1);
  std::vector<float> in(100003);
  for (float& x : in) {
    x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  }
  for (std::size_t i = 0; i < 40000; ++i) {  // the range of Half, ties included
    in[i] = static_cast<float>(static_cast<int>(random() % 262144U) - 131072) *
            std::bit_cast<float>(static_cast<std::uint32_t>((random() % 40U) + 90U) << 23);
  }
  in[50000] = std::numeric_limits<float>::infinity();
  in[50001] = -0.0F;
  in[50002] = std::numeric_limits<float>::quiet_NaN();
  in[50003] = 65519.99F;
  in[50004] = 65520.0F;
  std::vector<TestType> out(in.size());
  host::from_floats(in.data(), out.data(), in.size());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    wrong += out[i] != kvfreeze::from_float<TestType>(in[i]) ? 1U : 0U;
  }
  CHECK(wrong == 0);
}

TEST_CASE("all_finite finds one bad number anywhere") {
  for (std::size_t n = 0; n < 70; ++n) {
    std::vector<float> x(n, -std::numeric_limits<float>::max());
    CHECK(host::all_finite(x.data(), n));
    for (std::size_t i = 0; i < n; ++i) {
      for (float const bad :
           {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
            std::numeric_limits<float>::quiet_NaN(),
            -std::numeric_limits<float>::signaling_NaN()}) {
        x[i] = bad;
        bool const finite = host::all_finite(x.data(), n);
        if (finite) {
          FAIL_CHECK("missed " << bad << " at " << i << " of " << n);
        }
      }
      x[i] = 0.0F;
    }
  }
}
