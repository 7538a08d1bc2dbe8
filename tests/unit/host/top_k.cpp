#include <kvfreeze/host/top_k.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace host = kvfreeze::host;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<std::uint8_t> by_sorting(std::vector<float> const& scores,
                                     std::vector<std::uint32_t> const& offsets, std::uint32_t k) {
  std::vector<std::uint8_t> out(scores.size());
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    std::vector<std::uint32_t> order(offsets[s + 1] - offsets[s]);
    std::iota(order.begin(), order.end(), offsets[s]);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
    });
    for (std::size_t i = 0; i < std::min<std::size_t>(k, order.size()); ++i) {
      out[order[i]] = 1;
    }
  }
  return out;
}

}  // namespace

TEST_CASE("top_k is what a stable sort selects") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int const kinds : {0, 1, 3, 50}) {  // few kinds of scores: many ties
    std::vector<float> scores(1500);
    for (float& x : scores) {
      x = kinds == 0 ? normal(random)
                     : static_cast<float>(static_cast<int>(random() % 50U) % kinds) - 1.0F;
    }
    scores[3] = infinity;
    scores[4] = -infinity;
    scores[5] = -0.0F;
    scores[6] = 0.0F;
    std::vector<std::uint32_t> const offsets = {0, 7, 7, 8, 100, 1500};
    for (std::uint32_t const k : {0U, 1U, 2U, 5U, 6U, 7U, 93U, 1399U, 5000U}) {
      std::vector<std::uint8_t> selected(scores.size(), 9);
      auto const expected = by_sorting(scores, offsets, k);
      auto const n = host::top_k(scores, offsets, k, selected);
      CHECK(selected == expected);
      CHECK(n == static_cast<std::size_t>(std::count(expected.begin(), expected.end(), 1)));
    }
  }
}

TEST_CASE("top_k of nothing") {
  std::vector<std::uint8_t> selected;
  CHECK(host::top_k({}, {}, 3, selected) == 0);
  std::vector<std::uint32_t> const offsets = {0, 0};
  CHECK(host::top_k({}, offsets, 3, selected) == 0);
}

TEST_CASE("top_k refuses what does not fit") {
  std::vector<float> scores(10, 1.0F);
  std::vector<std::uint8_t> selected(10);
  std::vector<std::uint32_t> const descending = {0, 5, 4};
  std::vector<std::uint32_t> const beyond = {0, 11};
  std::vector<std::uint32_t> const whole = {0, 10};
  CHECK_THROWS_AS(host::top_k(scores, descending, 1, selected), kvfreeze::InvalidArgument);
  CHECK_THROWS_AS(host::top_k(scores, beyond, 1, selected), kvfreeze::InvalidArgument);
  CHECK_THROWS_WITH(host::top_k(scores, whole, 1, std::span(selected).first(9)),
                    "top_k: selected has 9 elements, expected 10");
  scores[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(host::top_k(scores, whole, 1, selected), "top_k: scores[7] is NaN");
}
