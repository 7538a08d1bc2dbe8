#include <kvfreeze/host/kernels/known_weights.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace host = kvfreeze::host;

TEST_CASE("Known weights become floats and their sum") {
  for (int const n : {0, 1, 7, 15, 16, 17, 100, 1000}) {
    CAPTURE(n);
    std::vector<float> weights(static_cast<std::size_t>(n) + 1, -1.0F);
    double total = 0.0;
    std::vector<std::int32_t> integers;
    integers.reserve(static_cast<std::size_t>(n) + 1);  // not null where n is 0
    for (int i = 0; i < n; ++i) {
      integers.push_back((i * 7919 + 3) % (1 << 24));
      total += integers.back();
    }
    std::memcpy(weights.data(), integers.data(), integers.size() * sizeof(std::int32_t));
    auto const before = weights;
    float const untouched = host::sum_weights(weights.data(), n);
    CHECK(std::memcmp(weights.data(), before.data(), before.size() * sizeof(float)) == 0);
    float const taken = host::take_weights(weights.data(), n);
    CHECK(taken == untouched);
    CHECK(static_cast<double>(taken) == Approx(total).epsilon(1e-6));
    for (int i = 0; i < n; ++i) {
      REQUIRE(weights[static_cast<std::size_t>(i)] ==
              static_cast<float>(integers[static_cast<std::size_t>(i)]));
    }
    CHECK(weights.back() == -1.0F);
    CHECK(host::sum_floats(weights.data(), n) == taken);
  }
}

TEST_CASE("The largest logits are those of all runs, of rows that take part") {
  int const heads = 5;
  auto a = normal_numbers(static_cast<std::size_t>(heads * 40), 1, 3.0F);
  auto b = normal_numbers(static_cast<std::size_t>(heads * 21), 2, 3.0F);
  std::vector<std::uint8_t> states(37, host::LogitRun::taking_part);
  for (int h = 0; h < heads; ++h) {
    a[static_cast<std::size_t>(h * 40 + 11)] = 100.0F;
  }
  states[11] = 0;
  std::vector<host::LogitRun> const runs = {{a.data(), 40, 37, states.data(), nullptr},
                                            {b.data(), 21, 21, nullptr, nullptr},
                                            {b.data(), 21, 0, nullptr, nullptr}};
  std::vector<float> highest(static_cast<std::size_t>(heads));
  host::largest_logits(runs, heads, highest.data());
  for (int h = 0; h < heads; ++h) {
    float expected = -1e30F;
    for (int i = 0; i < 37; ++i) {
      expected = i == 11 ? expected : std::fmax(expected, a[static_cast<std::size_t>(h * 40 + i)]);
    }
    for (int i = 0; i < 21; ++i) {
      expected = std::fmax(expected, b[static_cast<std::size_t>(h * 21 + i)]);
    }
    CHECK(highest[static_cast<std::size_t>(h)] == expected);
  }
}
