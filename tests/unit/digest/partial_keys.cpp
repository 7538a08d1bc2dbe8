#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/partial_keys.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

using namespace kvfreeze;

namespace {

std::vector<float> normal_numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  std::generate(x.begin(), x.end(), [&] { return normal(random); });
  return x;
}

template <class Digest>
std::vector<float> scanned(std::vector<float> const& keys, float const* importance,
                           std::vector<float> const& q, int dim) {
  std::vector<std::byte> group(Digest::bytes(dim));
  if constexpr (requires { Digest::encode(keys.data(), importance, dim, group.data()); }) {
    Digest::encode(keys.data(), importance, dim, group.data());
  } else {
    Digest::encode(keys.data(), dim, group.data());
  }
  std::vector<float> logits(2 * Digest::group_rows + 5, -1.0F);
  Digest::scan({q.data(), 2, dim}, group.data(), logits.data(), Digest::group_rows + 5);
  return logits;
}

}  // namespace

TEST_CASE("exact keys give the keys' own logits", "[digest]") {
  for (int const dim : {8, 64, 136}) {
    auto keys = normal_numbers(static_cast<std::size_t>(16 * dim), 1);
    for (float& x : keys) {
      x = to_float(from_float<Half>(x));
    }
    auto const q = normal_numbers(static_cast<std::size_t>(2 * dim), 2);
    auto const logits = scanned<ExactKeys>(keys, nullptr, q, dim);
    for (int h = 0; h < 2; ++h) {
      for (int row = 0; row < 16; ++row) {
        double dot = 0.0;
        for (int d = 0; d < dim; ++d) {
          dot += static_cast<double>(q[static_cast<std::size_t>(h * dim + d)]) *
                 static_cast<double>(keys[static_cast<std::size_t>(row * dim + d)]);
        }
        CHECK(logits[static_cast<std::size_t>(h * 21 + row)] == Approx(dot).margin(1e-4));
      }
    }
  }
}

TEST_CASE("partial keys see the channels that matter to the queries, to 8 bits", "[digest]") {
  constexpr int dim = 40;
  using Digest = PartialKeys<25>;
  REQUIRE(Digest::channels(dim) == 10);
  auto const keys = normal_numbers(64 * dim, 3);
  std::vector<float> importance(dim, 0.0F);
  std::vector<float> q(2 * dim, 0.0F);
  for (int d = 1; d < dim; d += 4) {  // the queries have these ten alone
    importance[static_cast<std::size_t>(d)] = 1.0F;
    q[static_cast<std::size_t>(d)] = 0.5F + 0.1F * static_cast<float>(d);
    q[static_cast<std::size_t>(dim + d)] = -1.0F;
  }
  auto const logits = scanned<Digest>(keys, importance.data(), q, dim);
  for (int h = 0; h < 2; ++h) {
    for (int row = 0; row < 64; ++row) {
      double dot = 0.0;
      for (int d = 0; d < dim; ++d) {
        dot += static_cast<double>(q[static_cast<std::size_t>(h * dim + d)]) *
               static_cast<double>(keys[static_cast<std::size_t>(row * dim + d)]);
      }
      CHECK(logits[static_cast<std::size_t>(h * 69 + row)] == Approx(dot).margin(0.25));
    }
  }
  // Without knowledge of the queries, the channels with the most energy.
  std::vector<float> loud = keys;
  for (int i = 0; i < 64; ++i) {
    loud[static_cast<std::size_t>(i * dim + 7)] *= 100.0F;
  }
  std::vector<float> one(2 * dim, 0.0F);
  one[7] = 1.0F;
  auto const seen = scanned<Digest>(loud, nullptr, one, dim);
  for (int row = 0; row < 64; ++row) {
    CHECK(seen[static_cast<std::size_t>(row)] ==
          Approx(static_cast<double>(loud[static_cast<std::size_t>(row * dim + 7)])).margin(2.0));
  }
}

TEST_CASE("partial keys of nothing are nothing", "[digest]") {
  std::vector<float> const keys(64 * 16, 0.0F);
  auto const logits = scanned<PartialKeys<20>>(keys, nullptr, normal_numbers(32, 4), 16);
  CHECK(std::all_of(logits.begin(), logits.begin() + 64, [](float x) { return x == 0.0F; }));
}
