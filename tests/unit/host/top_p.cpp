#include <kvfreeze/host/top_p.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace host = kvfreeze::host;

namespace {

std::vector<std::uint8_t> by_sorting(std::vector<std::uint32_t> const& masses,
                                     std::vector<std::uint32_t> const& offsets, float p) {
  std::vector<std::uint8_t> out(masses.size());
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    std::vector<std::uint32_t> order(offsets[s + 1] - offsets[s]);
    std::iota(order.begin(), order.end(), offsets[s]);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return masses[a] > masses[b] || (masses[a] == masses[b] && a < b);
    });
    std::uint64_t total = 0;
    for (std::uint32_t const i : order) {
      total += masses[i];
    }
    double const goal = std::ceil(static_cast<double>(total) * static_cast<double>(p));
    std::uint64_t sum = 0;
    for (std::uint32_t const i : order) {
      if (static_cast<double>(sum) >= goal) {
        break;
      }
      out[i] = 1;
      sum += masses[i];
    }
  }
  return out;
}

}  // namespace

TEST_CASE("top_p is the smallest set of highest masses") {
  std::mt19937 random(1);
  for (int const round : {0, 1, 2, 3}) {
    std::vector<std::uint32_t> masses(1200);
    for (auto& mass : masses) {
      auto const bits = static_cast<std::uint32_t>(random());
      mass = round == 0 ? bits >> (random() % 32) : round == 1 ? 5 : round == 2 ? bits % 3 : bits;
    }
    std::vector<std::uint32_t> const offsets = {0, 3, 3, 4, 200, 1200};
    for (float const p : {0.0F, 1e-9F, 0.1F, 0.5F, 0.9F, 0.999F, 1.0F}) {
      std::vector<std::uint8_t> selected(masses.size(), 9);
      auto const n = host::top_p(masses, offsets, p, selected);
      CAPTURE(round, p);
      CHECK(selected == by_sorting(masses, offsets, p));
      CHECK(n == static_cast<std::size_t>(std::count(selected.begin(), selected.end(), 1)));
    }
  }
}

TEST_CASE("top_p of zeros and of nothing selects nothing") {
  std::vector<std::uint32_t> const masses(9, 0U);
  std::vector<std::uint32_t> const offsets = {0, 9};
  std::vector<std::uint8_t> selected(9, 1);
  CHECK(host::top_p(masses, offsets, 1.0F, selected) == 0);
  CHECK(std::count(selected.begin(), selected.end(), 0) == 9);
  CHECK(host::top_p({}, {}, 1.0F, {}) == 0);
}

TEST_CASE("top_p refuses what does not fit") {
  std::vector<std::uint32_t> const masses(9, 1U);
  std::vector<std::uint32_t> const offsets = {0, 9};
  std::vector<std::uint8_t> selected(9);
  for (float const p : {-0.1F, 1.1F, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK_THROWS_AS(host::top_p(masses, offsets, p, selected), kvfreeze::InvalidArgument);
  }
  CHECK_THROWS_AS(host::top_p(masses, offsets, 0.5F, std::span(selected).first(2)),
                  kvfreeze::InvalidArgument);
}
