#include <kvfreeze/host/kernels/masses.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
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

float const out_of_place[5] = {0.5F, 1e30F, -1e30F, std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN()};

/// Rows of `logits` that lie in runs of the given lengths, every `skip`-th not taking part.
struct Runs {
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<std::uint8_t>> states;
  std::vector<std::vector<host::Mass>> masses;
  std::vector<host::LogitRun> runs;

  Runs(std::vector<float> const& all, int heads, std::vector<int> const& lengths, int skip) {
    int const n = std::accumulate(lengths.begin(), lengths.end(), 0);
    logits.reserve(lengths.size());
    states.reserve(lengths.size());
    masses.reserve(lengths.size());
    int first = 0;
    for (int const rows : lengths) {
      int const stride = rows + 3;
      auto& part = logits.emplace_back(static_cast<std::size_t>(heads * stride), 9.0F);
      auto& state = states.emplace_back();
      for (int i = 0; i < rows; ++i) {
        bool const in = skip == 0 || (first + i) % skip != 0;
        for (int h = 0; h < heads; ++h) {
          part[static_cast<std::size_t>(h * stride + i)] =
              all[static_cast<std::size_t>(h * n + first + i)];
        }
        for (int h = 0; !in && h < heads; ++h) {  // whatever it is
          part[static_cast<std::size_t>(h * stride + i)] = out_of_place[(first + i + h) % 5];
        }
        state.push_back(in ? 0x52 : static_cast<std::uint8_t>(i % 2 != 0 ? 0x50 : 0x13));
      }
      auto& mass = masses.emplace_back(static_cast<std::size_t>(rows) + 1, 77U);
      runs.push_back({part.data(), stride, rows, skip != 0 ? state.data() : nullptr, mass.data()});
      first += rows;
    }
  }

  [[nodiscard]] std::vector<host::Mass> joined() const {
    std::vector<host::Mass> out;
    for (auto const& part : masses) {
      CHECK(part.back() == 77U);
      out.insert(out.end(), part.begin(), part.end() - 1);
    }
    return out;
  }
};

void check_runs(int heads, std::vector<int> const& lengths, int skip, bool known) {
  CAPTURE(heads, lengths, skip, known);
  int const n = std::accumulate(lengths.begin(), lengths.end(), 0);
  auto const logits = normal_numbers(static_cast<std::size_t>(heads * n), 8, 5.0F);
  auto straight = logits;
  for (int i = 0; skip != 0 && i < heads * n; ++i) {
    if (i % n % skip == 0) {
      straight[static_cast<std::size_t>(i)] = minus_infinity;
    }
  }
  std::vector<float> highest;
  for (int h = 0; h < heads; ++h) {
    highest.push_back(*std::max_element(straight.begin() + h * n, straight.begin() + (h + 1) * n));
  }
  std::vector<host::Mass> expected(static_cast<std::size_t>(n));
  std::vector<float> expected_lse(static_cast<std::size_t>(heads));
  host::softmax_masses(straight.data(), n, heads, n, expected.data(), expected_lse.data());
  Runs const runs(logits, heads, lengths, skip);
  std::vector<float> lse(static_cast<std::size_t>(heads));
  host::softmax_masses(runs.runs, heads, lse.data(), known ? highest.data() : nullptr);
  CHECK(runs.joined() == expected);
  CHECK(lse == expected_lse);
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

TEST_CASE("Masses do not depend on the division into runs") {
  for (int const heads : {1, 2, 3, 4, 5, 9}) {
    for (int const skip : {0, 1, 2, 7}) {
      for (bool const known : {false, true}) {
        check_runs(heads, {333}, skip, known);
        check_runs(heads, {0, 1, 15, 0, 16, 17, 64, 220, 0}, skip, known);
        check_runs(heads, {2500, 1, 4099}, skip, known);
      }
    }
  }
  host::softmax_masses(std::span<host::LogitRun const>(), 0, nullptr);
}

TEST_CASE("Logits far below the largest weigh nothing, whatever they are") {
  std::vector<float> logits(40, -3e38F);
  for (std::size_t i = 0; i < logits.size(); i += 2) {
    logits[i] = -1.7F * static_cast<float>(1ULL << (i + 5));
  }
  logits[1] = minus_infinity;
  logits[20] = 0.0F;
  logits[21] = -26.0F;
  std::vector<host::Mass> mass(40, 3U);
  float lse = 1.0F;
  host::softmax_masses(logits.data(), 40, 1, 40, mass.data(), &lse);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    CHECK(mass[i] == (i == 20 ? 1U << 30 : 0U));
  }
}

TEST_CASE("Weights are within 2^-18 of the exact ones, and exact at the largest") {
  std::vector<float> x(16 * 2000);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = -static_cast<float>(i) * 0x1p-11F;
  }
  for (std::size_t i = 0; i < x.size(); i += 16) {
    std::int32_t weight[16];
    host::store(weight, host::kernels::integer_weights<false>(host::load(x.data() + i),
                                                              host::splat(0.0F), host::Mask16{}));
    for (std::size_t j = 0; j < 16; ++j) {
      double const expected = std::exp2(24.0 + static_cast<double>(x[i + j]));
      REQUIRE(std::abs(weight[j] - expected) <= 0.5 + expected * 0x1p-18);
    }
    REQUIRE((i != 0 || weight[0] == 1 << 24));
  }
}
