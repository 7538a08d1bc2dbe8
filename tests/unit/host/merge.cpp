#include <kvfreeze/host/merge.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using kvfreeze::InvalidArgument;
namespace host = kvfreeze::host;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Softmax over some logits, values [logits][2].
struct Attention {
  std::vector<float> out{0.0F, 0.0F};
  float lse = -infinity;

  Attention(std::vector<float> const& logits, std::vector<float> const& values) {
    double sum = 0.0;
    double total[2] = {};
    for (std::size_t i = 0; i < logits.size(); ++i) {
      double const weight = std::exp(static_cast<double>(logits[i]));
      sum += weight;
      total[0] += weight * static_cast<double>(values[2 * i]);
      total[1] += weight * static_cast<double>(values[2 * i + 1]);
    }
    if (!logits.empty()) {
      out = {static_cast<float>(total[0] / sum), static_cast<float>(total[1] / sum)};
      lse = static_cast<float>(std::log(sum));
    }
  }
};

}  // namespace

TEST_CASE("Merged attentions are attention over the rows of both") {
  Attention const a({0.5F, -1.0F}, {1.0F, 2.0F, 3.0F, -4.0F});
  Attention const b({2.0F, 0.25F, -3.0F}, {5.0F, 0.0F, -1.0F, 7.0F, 2.0F, 2.0F});
  Attention const both({0.5F, -1.0F, 2.0F, 0.25F, -3.0F},
                       {1.0F, 2.0F, 3.0F, -4.0F, 5.0F, 0.0F, -1.0F, 7.0F, 2.0F, 2.0F});
  std::vector<float> out(2);
  float lse = 0.0F;
  host::merge(a.out, {&a.lse, 1}, b.out, {&b.lse, 1}, out, {&lse, 1});
  CHECK(out[0] == Approx(both.out[0]));
  CHECK(out[1] == Approx(both.out[1]));
  CHECK(lse == Approx(both.lse));
}

TEST_CASE("Merging is the same either way round and in place") {
  std::vector<float> a = {1.0F, -2.0F, 3.0F, 0.1F};
  std::vector<float> const b = {0.7F, 9.0F, -3.0F, 4.0F};
  std::vector<float> lse_a = {0.3F, -88.0F};
  std::vector<float> const lse_b = {1.3F, 90.0F};
  std::vector<float> out(4);
  std::vector<float> other(4);
  std::vector<float> lse(2);
  std::vector<float> other_lse(2);
  host::merge(a, lse_a, b, lse_b, out, lse);
  host::merge(b, lse_b, a, lse_a, other, other_lse);
  CHECK(out == other);
  CHECK(lse == other_lse);
  CHECK(out[2] == b[2]);  // what weighs e^-178 of the rest changes nothing
  CHECK(lse[1] == lse_b[1]);
  host::merge(a, lse_a, b, lse_b, a, lse_a);
  CHECK(a == out);
  CHECK(lse_a == lse);
}

TEST_CASE("Merging large log-sum-exps does not overflow") {
  std::vector<float> const a = {1.0F, 3.0F};
  std::vector<float> const b = {3.0F, 1.0F};
  std::vector<float> const same = {3e38F, -3e38F};
  std::vector<float> out(2);
  std::vector<float> lse(2);
  host::merge(a, same, b, same, out, lse);
  CHECK(out == std::vector<float>{2.0F, 2.0F});
  CHECK(lse == same);
}

TEST_CASE("A side without rows changes nothing") {
  std::vector<float> const a = {1.5F, -2.25F};
  std::vector<float> const nothing(2);
  std::vector<float> const lse_a = {0.3F};
  std::vector<float> const none = {-infinity};
  std::vector<float> out(2);
  std::vector<float> lse(1);
  host::merge(a, lse_a, nothing, none, out, lse);
  CHECK(out == a);
  CHECK(lse == lse_a);
  host::merge(nothing, none, a, lse_a, out, lse);
  CHECK(out == a);
  CHECK(lse == lse_a);
  host::merge(a, none, a, none, out, lse);
  CHECK(out == nothing);
  CHECK(lse == none);
  host::merge({}, {}, {}, {}, {}, {});
}

TEST_CASE("Merging says which sizes do not fit") {
  std::vector<float> const two(2);
  std::vector<float> const three(3, 1.0F);
  std::vector<float> const four(4, 1.0F);
  std::vector<float> out(4, 7.0F);
  std::vector<float> lse(2, 7.0F);
  using Floats = std::vector<float> const&;
  auto const rejects = [&](std::string const& message, Floats out_a, Floats lse_a, Floats out_b,
                           Floats lse_b) {
    REQUIRE_THROWS_MATCHES(host::merge(out_a, lse_a, out_b, lse_b, out, lse), InvalidArgument,
                           Catch::Predicate<InvalidArgument>(
                               [&](InvalidArgument const& error) {
                                 return std::string(error.what()).find(message) !=
                                        std::string::npos;
                               },
                               "names " + message));
    REQUIRE(out == std::vector<float>(4, 7.0F));
    REQUIRE(lse == std::vector<float>(2, 7.0F));
  };
  rejects("lse_a, lse_b and lse 3, 2 and 2", four, three, four, two);
  rejects("lse_a, lse_b and lse 2, 3 and 2", four, two, four, three);
  rejects("out_a, out_b and out have 3, 4 and 4", three, two, four, two);
  rejects("out_a, out_b and out have 4, 3 and 4", four, two, three, two);
  std::vector<float> uneven(3);
  REQUIRE_THROWS_AS(host::merge(three, two, three, two, uneven, lse), InvalidArgument);
  REQUIRE_THROWS_AS(host::merge(three, {}, three, {}, uneven, {}), InvalidArgument);
}
