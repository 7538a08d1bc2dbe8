#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/mean_abs_dot_scorer.hpp>
#include <kvfreeze/scorer/recency_scorer.hpp>

#include <catch2/catch.hpp>

using namespace kvfreeze;

TEST_CASE("mean |q.k| comes from the backend, over the window it names", "[scorer]") {
  MeanAbsDotScorer<> const scorer{.window = 16};
  NoState state;
  REQUIRE(scorer.score(state, {.mass = 1.0F, .mean_abs_dot = 2.5F}) == 2.5F);
  REQUIRE(detail::query_window(scorer) == 16);
  REQUIRE(detail::query_window(MeanAbsDotScorer<>{}) == 32);
  REQUIRE(detail::query_window(RecencyScorer{}) == 0);
  REQUIRE_THROWS_AS(MeanAbsDotScorer<>{.window = 0}.validate(), InvalidArgument);
}

TEST_CASE("newer is higher, up to the longest context", "[scorer]") {
  RecencyScorer const scorer;
  for (std::int32_t const position : {0, 1, 1000, (1 << 24) - 2}) {
    REQUIRE(scorer.score({}, {.position = position}) <
            scorer.score({}, {.position = position + 1}));
  }
}

TEST_CASE("a larger key norm scores lower", "[scorer]") {
  KeyNormScorer<> const scorer;
  REQUIRE(scorer.score({}, {.key_norm = 0.0F}) == 1.0F);
  REQUIRE(scorer.score({}, {.key_norm = 3.0F}) == 0.25F);
  REQUIRE(scorer.score({}, {.key_norm = 1e30F}) >= 0.0F);
  REQUIRE(scorer.score({}, {.key_norm = 5.0F}) > scorer.score({}, {.key_norm = 6.0F}));
}

TEST_CASE("a scorer carries the digest it is given", "[scorer]") {
  static_assert(std::is_same_v<detail::digest_t<MeanAbsDotScorer<NoDigest>>, NoDigest>);
  static_assert(std::is_same_v<detail::digest_t<RecencyScorer>, NoDigest>);
  SUCCEED();
}
