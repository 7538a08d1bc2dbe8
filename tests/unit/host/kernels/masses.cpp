#include <kvfreeze/host/kernels/masses.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace host = kvfreeze::host;

namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

void check(int heads, int n) {
  CAPTURE(heads, n);
  int const stride = n + 5;
  auto logits = normal_numbers(static_cast<std::size_t>(heads * stride),
                               static_cast<unsigned>(heads + n), 4.0F);
  for (int i = 1; i < n; i += 7) {
    for (int h = 0; h < heads; ++h) {
      logits[static_cast<std::size_t>(h * stride + i)] = minus_infinity;
    }
  }
  auto const original = logits;
  std::vector<host::Mass> mass(static_cast<std::size_t>(n) + 1, 77U);
  std::vector<float> lse(static_cast<std::size_t>(heads));
  host::softmax_masses(logits.data(), stride, heads, n, mass.data(), lse.data());
  CHECK(mass.back() == 77U);
  std::vector<double> expected(static_cast<std::size_t>(n), 0.0);
  for (int h = 0; h < heads; ++h) {
    float const* const row = original.data() + h * stride;
    double const highest = static_cast<double>(*std::max_element(row, row + n));
    double sum = 0.0;
    for (int i = 0; i < n; ++i) {
      sum += std::exp2(static_cast<double>(row[i]) - highest);
    }
    for (int i = 0; i < n; ++i) {
      expected[static_cast<std::size_t>(i)] +=
          std::exp2(static_cast<double>(row[i]) - highest) / sum / heads;
    }
    CHECK(static_cast<double>(lse[static_cast<std::size_t>(h)]) ==
          Approx(highest + std::log2(sum)).margin(1e-4));
  }
  for (int i = 0; i < n; ++i) {
    auto const index = static_cast<std::size_t>(i);
    REQUIRE(static_cast<double>(host::mass_to_float(mass[index])) ==
            Approx(expected[index]).margin(3e-7));
  }
}

}  // namespace

TEST_CASE("Masses are the mean of the heads' softmax weights") {
  for (int heads = 1; heads <= 9; ++heads) {
    check(heads, 100);
  }
  for (int const n : {1, 2, 15, 16, 17, 1023, 1024, 1025, 5000}) {
    check(3, n);
  }
}

TEST_CASE("Masses do not depend on the order of rows") {
  auto const logits = normal_numbers(3000, 4, 5.0F);
  std::vector<std::size_t> order(1000);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937 random(6);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<float> shuffled(3000);
  for (std::size_t h = 0; h < 3; ++h) {
    for (std::size_t i = 0; i < 1000; ++i) {
      shuffled[h * 1000 + i] = logits[h * 1000 + order[i]];
    }
  }
  auto straight = logits;
  std::vector<host::Mass> a(1000);
  std::vector<host::Mass> b(1000);
  host::softmax_masses(straight.data(), 1000, 3, 1000, a.data(), nullptr);
  host::softmax_masses(shuffled.data(), 1000, 3, 1000, b.data(), nullptr);
  for (std::size_t i = 0; i < 1000; ++i) {
    REQUIRE(b[i] == a[order[i]]);
  }
}

TEST_CASE("Masses of nothing, of excluded rows and of one row") {
  host::softmax_masses(nullptr, 0, 2, 0, nullptr, nullptr);
  std::vector<float> none(20, minus_infinity);
  std::vector<host::Mass> mass(20, 5U);
  float lse = 0.0F;
  host::softmax_masses(none.data(), 20, 1, 20, mass.data(), &lse);
  CHECK(std::count(mass.begin(), mass.end(), 0U) == 20);
  CHECK(lse == minus_infinity);
  float one = -1e30F;
  host::softmax_masses(&one, 1, 1, 1, mass.data(), &lse);
  CHECK(mass[0] == 1U << 30);
  CHECK(lse == -1e30F);
  CHECK(host::to_mass(0.25F) == 1U << 28);
}
