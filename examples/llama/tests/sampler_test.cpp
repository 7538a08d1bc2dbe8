#include "sampler.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <vector>

using namespace llama;

namespace {

constexpr SamplerOptions greedy{.temperature = 0.0};
constexpr SamplerOptions whole{.temperature = 1.0, .top_p = 1.0};

}  // namespace

TEST_CASE("temperature 0 takes the likeliest token that is not banned") {
  std::vector<float> const logits{1.0F, 5.0F, 3.0F};
  CHECK(Sampler(greedy, 1).sample(logits) == 1);
  CHECK(Sampler(greedy, 1, {1}).sample(logits) == 2);
}

TEST_CASE("frequencies follow the distribution") {
  std::vector<float> const logits{std::log(0.2F), std::log(0.5F), std::log(0.3F)};
  Sampler sampler(whole, 7);
  std::vector<int> counts(3);
  for (int i = 0; i < 20000; ++i) {
    ++counts[static_cast<std::size_t>(sampler.sample(logits))];
  }
  CHECK(counts[0] / 20000.0 == Approx(0.2).margin(0.015));
  CHECK(counts[1] / 20000.0 == Approx(0.5).margin(0.015));
}

TEST_CASE("the nucleus leaves out the tail") {
  std::vector<float> const logits{std::log(0.6F), std::log(0.3F), std::log(0.1F)};
  Sampler sampler({.temperature = 1.0, .top_p = 0.85}, 3);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(sampler.sample(logits) != 2);
  }
}

TEST_CASE("a restored state draws the same tokens again") {
  std::vector<float> const logits(50, 0.0F);
  Sampler sampler(whole, 11);
  sampler.sample(logits);
  Sampler::State const state = sampler.state();
  std::vector<int> first;
  for (int i = 0; i < 20; ++i) {
    first.push_back(sampler.sample(logits));
  }
  sampler.restore(state);
  for (int const token : first) {
    REQUIRE(sampler.sample(logits) == token);
  }
}

TEST_CASE("a repeat penalty moves the choice, greedy sampling ignores it") {
  std::vector<float> const logits{20.0F, 19.0F, -50.0F};
  std::vector<int> const recent{0, 0, 0};
  SamplerOptions options{.temperature = 0.01, .top_p = 1.0, .repeat_penalty = 1.2};
  CHECK(Sampler(options, 1).sample(logits, recent) == 1);
  CHECK(Sampler(options, 1).sample(logits) == 0);
  options.temperature = 0.0;
  CHECK(Sampler(options, 1).sample(logits, recent) == 0);
}
