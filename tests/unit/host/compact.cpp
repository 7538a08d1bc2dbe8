#include <kvfreeze/host/compact.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

namespace host = kvfreeze::host;

TEMPLATE_TEST_CASE("compact keeps flagged values in order", "", std::uint32_t, float, std::uint8_t,
                   std::uint64_t) {
  std::mt19937 random(1);
  for (std::size_t n = 0; n < 120; ++n) {
    for (unsigned const density : {0U, 1U, 50U, 100U}) {
      std::vector<TestType> values(n);
      std::vector<std::uint8_t> flags(n);
      std::vector<TestType> expected;
      for (std::size_t i = 0; i < n; ++i) {
        values[i] = static_cast<TestType>(i + 1);
        flags[i] = random() % 100 < density ? static_cast<std::uint8_t>(1 + random() % 255) : 0;
        if (flags[i] != 0) {
          expected.push_back(values[i]);
        }
      }
      std::vector<TestType> out(expected.size() + 1, TestType(0));
      auto const room = std::span(out).first(expected.size());
      REQUIRE(host::compact<TestType>(flags, values, room) == expected.size());
      REQUIRE(std::equal(expected.begin(), expected.end(), out.begin()));
      REQUIRE(out.back() == TestType(0));
      REQUIRE(host::compact<TestType>(flags, values, values) == expected.size());
      REQUIRE(std::equal(expected.begin(), expected.end(), values.begin()));
    }
  }
}

TEST_CASE("compact refuses what does not fit") {
  std::vector<std::uint8_t> const flags = {1, 0, 1};
  std::vector<float> const values = {1.0F, 2.0F, 3.0F};
  std::vector<float> out(1, -1.0F);
  CHECK_THROWS_WITH(host::compact<float>(flags, values, out),
                    "compact: out has 1 elements, but 2 are flagged");
  CHECK(out[0] == -1.0F);
  CHECK_THROWS_AS(host::compact<float>(flags, std::span(values).first(2), out),
                  kvfreeze::InvalidArgument);
}
