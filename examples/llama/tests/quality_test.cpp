#include "quality.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <vector>

using namespace llama;

TEST_CASE("equal distributions have no divergence, whatever their offset") {
  std::vector<float> const a{0.0F, 1.0F, 2.0F};
  std::vector<float> const b{100.0F, 101.0F, 102.0F};
  Prediction const p = compare_logits(a, b, 2);
  CHECK(p.kl == Approx(0.0).margin(1e-12));
  CHECK(p.nll == Approx(p.nll_plain));
  CHECK(p.same_top);
}

TEST_CASE("divergence of a known pair") {
  // (1/2, 1/2) against (1/4, 3/4): KL = log 2 - log(3)/2.
  std::vector<float> const half{0.0F, 0.0F};
  std::vector<float> const quarter{0.0F, std::log(3.0F)};
  Prediction const p = compare_logits(half, quarter, 1);
  CHECK(p.kl == Approx(std::log(2.0) - 0.5 * std::log(3.0)).epsilon(1e-6));
  CHECK(p.nll_plain == Approx(std::log(2.0)));
  CHECK(p.nll == Approx(-std::log(0.75)).epsilon(1e-6));
  CHECK_FALSE(p.same_top);
}

TEST_CASE("large logits do not overflow") {
  std::vector<float> const a{3e4F, -3e4F};
  Prediction const p = compare_logits(a, a, 0);
  CHECK(p.kl == 0.0);
  CHECK(p.nll == 0.0);
}

TEST_CASE("means over places") {
  std::vector<Prediction> const places{{0.1, 1.0, 1.5, true}, {0.3, 3.0, 3.5, false}};
  Quality const q = summarise(places);
  CHECK(q.positions == 2);
  CHECK(q.kl_mean == Approx(0.2));
  CHECK(q.perplexity_plain == Approx(std::exp(2.0)));
  CHECK(q.perplexity_ratio == Approx(std::exp(0.5)));
  CHECK(q.top1_agreement == Approx(0.5));
  CHECK(summarise(std::vector<Prediction>{}).positions == 0);
}
