#include <kvfreeze/error.hpp>
#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/ema_mass_scorer.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <deque>
#include <numeric>

using namespace kvfreeze;

namespace {

RowEvidence mass(float value, std::uint32_t step = 0) { return {.mass = value, .step = step}; }

}  // namespace

TEST_CASE("the instant mass is this step's", "[scorer]") {
  InstantMassScorer<> const scorer;
  NoState state;
  scorer.update(state, mass(0.75F));
  REQUIRE(scorer.score(state, mass(0.25F)) == 0.25F);
}

TEST_CASE("the moving average follows its closed form", "[scorer]") {
  for (float const decay : {0.0F, 0.5F, 0.9F, 0.99F}) {
    EmaMassScorer<> const scorer{.decay = decay};
    EmaMassScorer<>::State state;
    float const m = 0.3F;
    for (int n = 1; n <= 200; ++n) {
      scorer.update(state, mass(m));
      REQUIRE(scorer.score(state, {}) == Approx(m * (1.0 - std::pow(decay, n))).epsilon(2e-5));
    }
    float const reached = state.average;
    for (int n = 1; n <= 50; ++n) {
      scorer.update(state, mass(0.0F));
      REQUIRE(state.average >= 0.0F);
      REQUIRE(state.average == Approx(reached * std::pow(decay, n)).epsilon(2e-5));
    }
  }
}

TEST_CASE("the moving average rests at a constant and stays in [0, 1]", "[scorer]") {
  EmaMassScorer<> const scorer{.decay = 0.9F};
  EmaMassScorer<>::State state{.average = 0.7F};
  scorer.update(state, mass(0.7F));
  REQUIRE(state.average == 0.7F);
  state.average = 1.0F;
  scorer.update(state, mass(1.0F));
  REQUIRE(state.average == 1.0F);
}

TEST_CASE("the cumulative mass is the sum", "[scorer]") {
  CumulativeMassScorer<> const scorer;
  CumulativeMassScorer<>::State state;
  for (int i = 0; i < 100; ++i) {
    scorer.update(state, mass(0.125F));
  }
  REQUIRE(scorer.score(state, {}) == 12.5F);
}

TEST_CASE("the window covers between half of its steps and all of them", "[scorer]") {
  WindowMassScorer<> const scorer{.steps = 8};
  WindowMassScorer<>::State state;
  std::deque<float> recent;  // masses of the last 8 steps
  for (std::uint32_t step = 1000; step < 1100; ++step) {
    float const m = static_cast<float>(step * 7U % 16U) / 16.0F;
    scorer.update(state, mass(m, step));
    recent.push_front(m);
    if (recent.size() > 8) {
      recent.pop_back();
    }
    if (recent.size() == 8) {
      std::size_t const covered = 4 + step % 4U + 1;
      float const expected = std::accumulate(
          recent.begin(), recent.begin() + static_cast<std::ptrdiff_t>(covered), 0.0F);
      REQUIRE(scorer.score(state, mass(0.0F, step)) == expected);
    }
  }
}

TEST_CASE("what left the window does not count, updates or not", "[scorer]") {
  WindowMassScorer<> const scorer{.steps = 8};
  WindowMassScorer<>::State state;
  scorer.update(state, mass(0.5F, 100));  // 100 / 4 = half 25
  REQUIRE(scorer.score(state, mass(0.0F, 103)) == 0.5F);
  REQUIRE(scorer.score(state, mass(0.0F, 107)) == 0.5F);
  REQUIRE(scorer.score(state, mass(0.0F, 108)) == 0.0F);
  scorer.update(state, mass(0.25F, 200));
  REQUIRE(scorer.score(state, mass(0.0F, 200)) == 0.25F);
}

TEST_CASE("mass scorers reject parameters out of range", "[scorer]") {
  REQUIRE_THROWS_AS(EmaMassScorer<>{.decay = 1.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(EmaMassScorer<>{.decay = -0.1F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(EmaMassScorer<>{.decay = NAN}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(WindowMassScorer<>{.steps = 1}.validate(), InvalidArgument);
  REQUIRE_THROWS_WITH(EmaMassScorer<>{.decay = 1.5F}.validate(),
                      Catch::Contains("EmaMassScorer::decay") && Catch::Contains("1.5"));
  REQUIRE_NOTHROW(WindowMassScorer<>{.steps = 2}.validate());
}
