#include <kvfreeze/host/entropy.hpp>
#include <kvfreeze/host/kernels/convert.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace host = kvfreeze::host;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

template <kvfreeze::Element T>
void check(std::vector<T> const& logits) {
  std::vector<double> x;
  for (T const logit : logits) {
    x.push_back(static_cast<double>(kvfreeze::to_float(logit)));
  }
  auto const top = std::max_element(x.begin(), x.end());
  double sum = 0.0;
  double weighted = 0.0;
  for (double const v : x) {
    double const e = std::exp(v - *top);
    sum += e;
    weighted += e > 0.0 ? e * (v - *top) : 0.0;
  }
  host::Entropy const got = host::entropy(std::span<T const>(logits));
  CHECK(got.log_sum_exp == Approx(*top + std::log(sum)).epsilon(1e-6).margin(1e-6));
  CHECK(got.entropy_nats == Approx(std::log(sum) - weighted / sum).epsilon(1e-6).margin(1e-6));
  CHECK(got.top_probability == Approx(1.0 / sum).epsilon(1e-6));
  CHECK(got.top_index == static_cast<std::uint32_t>(top - x.begin()));
}

std::vector<float> noise(std::size_t n, float sigma) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("Entropy agrees with a reference", "", float, kvfreeze::Half,
                   kvfreeze::BFloat16) {
  for (std::size_t const n : {1U, 2U, 15U, 16U, 17U, 1023U, 1024U, 1025U, 4099U, 49152U}) {
    for (float const sigma : {0.0F, 0.01F, 1.0F, 5.0F, 500.0F}) {
      auto const wide = noise(n, sigma);
      std::vector<TestType> logits(n);
      host::from_floats(wide.data(), logits.data(), n);
      CAPTURE(n, sigma);
      check(logits);
    }
  }
}

TEST_CASE("Entropy of ascending logits, which move the maximum in every block") {
  auto logits = noise(8000, 1.0F);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] += static_cast<float>(i) * 0.002F;
  }
  check(logits);
  std::reverse(logits.begin(), logits.end());
  check(logits);
}

TEST_CASE("Entropy stands huge and infinite magnitudes") {
  std::vector<float> logits = {-3e38F, 3e38F, 1.0F, -infinity};
  auto const e = host::entropy<float>(logits);
  CHECK(e.entropy_nats == 0.0);
  CHECK(e.top_probability == 1.0);
  CHECK(e.top_index == 1);
  std::vector<float> late(3000, -infinity);
  late[2500] = 3.0F;
  late[2900] = 3.0F;
  auto const two = host::entropy<float>(late);
  CHECK(two.entropy_nats == Approx(std::log(2.0)));
  CHECK(two.log_sum_exp == Approx(3.0 + std::log(2.0)));
  CHECK(two.top_index == 2500);
  std::vector<float> far(2048, -3e38F);
  far[1500] = 3e38F;
  CHECK(host::entropy<float>(far).entropy_nats == 0.0);
}

TEST_CASE("Entropy of equal logits is ln n") {
  for (std::size_t const n : {2U, 100U, 49152U}) {
    std::vector<float> const logits(n, -1e5F);
    CHECK(host::entropy<float>(logits).entropy_nats ==
          Approx(std::log(static_cast<double>(n))).epsilon(1e-12));
  }
}

TEST_CASE("Entropy refuses what has none") {
  CHECK_THROWS_AS(host::entropy<float>({}), kvfreeze::InvalidArgument);
  for (std::size_t const at : {0U, 20U, 1030U}) {
    std::vector<float> logits(1031, 1.0F);
    logits[at] = infinity;
    CHECK_THROWS_AS(host::entropy<float>(logits), kvfreeze::InvalidArgument);
    logits[at] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(host::entropy<float>(logits),
                      "entropy: logits[" + std::to_string(at) + "] of 1031 is NaN or +infinity");
  }
  std::vector<float> const nothing(40, -infinity);
  CHECK_THROWS_AS(host::entropy<float>(nothing), kvfreeze::InvalidArgument);
}

TEST_CASE("Entropy of rows") {
  auto const logits = noise(300, 2.0F);
  std::vector<host::Entropy> rows(3);
  host::entropy<float>(logits, 100, rows);
  for (std::size_t i = 0; i < 3; ++i) {
    auto const one = host::entropy(std::span(logits).subspan(i * 100, 100));
    CHECK(rows[i].entropy_nats == one.entropy_nats);
    CHECK(rows[i].top_index == one.top_index);
  }
  CHECK_THROWS_AS(host::entropy<float>(logits, 99, rows), kvfreeze::InvalidArgument);
}
