// partial() beside view(), and what a cache with compact rows refuses.

#include <kvfreeze/kvfreeze.hpp>

#include "../../support/checked_cache.hpp"
#include "../../support/short_tests.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace kvfreeze;
using Catch::Contains;

namespace {

constexpr Shape six_heads{.layers = 2, .query_heads = 6, .kv_heads = 2, .head_dim = 16};
constexpr std::size_t width = 6 * 16;

template <class Cache>
void fill(Cache& cache, Sequence sequence, int tokens) {
  kvfreeze_test::InputStream stream(six_heads, 5);
  for (int layer = 0; layer < six_heads.layers; ++layer) {
    auto input = stream.next(tokens);
    cache.attend(sequence, layer, input.q, input.k, input.v, input.out);
  }
  cache.advance(sequence);
}

}  // namespace

TEST_CASE("partial() without compact rows is nothing", "[cache][compact]") {
  presets::ExactRecall<> cache(six_heads);
  auto const sequence = cache.open();
  fill(cache, sequence, 100);
  std::vector<float> const q(width, 1.0F);
  std::vector<float> out(width, 7.0F);
  std::vector<float> lse(6, 7.0F);
  cache.partial(sequence, 1, q, out, lse);
  CHECK(out == std::vector<float>(width));
  CHECK(lse == std::vector<float>(6, -std::numeric_limits<float>::infinity()));
}

TEMPLATE_TEST_CASE("partial() repeats itself and changes nothing", "[cache][compact]",
                   presets::KvFreeze<>, presets::UniformQuantised<4>) {
  typename TestType::scheduler_type scheduler;
  if constexpr (requires { scheduler.dense; }) {
    scheduler.dense = false;
  }
  TestType cache(six_heads, {.parts = 2}, {}, scheduler);
  kvfreeze_test::CheckedSequence<TestType> sequence(cache, 5);
  sequence.attend(200);
  for (int i = 0; i < 4; ++i) {
    sequence.append_and_observe(1, 0);  // joins partial() and view()
  }
  auto const before = kvfreeze_test::all_fidelities(cache, sequence.handle());
  REQUIRE(std::count(before.begin(), before.end(), Fidelity::compact) > 100);
  auto const input = kvfreeze_test::InputStream(six_heads, 9).next(1);
  std::vector<float> out(width);
  std::vector<float> lse(6);
  cache.partial(sequence.handle(), 1, input.q, out, lse);
  std::vector<float> again(width);
  std::vector<float> lse_again(6);
  cache.partial(sequence.handle(), 1, input.q, again, lse_again, {1, 2});
  cache.partial(sequence.handle(), 1, input.q, again, lse_again, {0, 2});
  CHECK(again == out);
  CHECK(lse_again == lse);
  CHECK(kvfreeze_test::all_fidelities(cache, sequence.handle()) == before);
  for (float const x : lse) {
    CHECK(std::isfinite(x));
  }
}

TEST_CASE("partial() refuses spans of the wrong size", "[cache][compact][bad input]") {
  presets::KvFreeze<> cache(six_heads);
  auto const sequence = cache.open();
  fill(cache, sequence, 10);
  std::vector<float> q(width, 1.0F);
  std::vector<float> out(width);
  std::vector<float> lse(6);
  std::span<float> const all(out);
  std::span<float> const heads(lse);
  CHECK_NOTHROW(cache.partial(sequence, 0, q, out, lse));
  CHECK_THROWS_WITH(cache.partial(sequence, 0, q, all.first(95), lse),
                    Contains("out has 95 elements, q has 96"));
  CHECK_THROWS_WITH(cache.partial(sequence, 0, q, out, heads.first(5)),
                    Contains("lse has 5, query_heads is 6"));
  CHECK_THROWS_AS(cache.partial(sequence, 0, std::span(q).first(95), out, lse), InvalidArgument);
  CHECK_THROWS_AS(cache.partial(sequence, 2, q, out, lse), InvalidArgument);
  CHECK_THROWS_AS(cache.partial(sequence, 0, q, out, lse, {1, 1}), InvalidArgument);
  q[3] = std::nanf("");
  CHECK_THROWS_AS(cache.partial(sequence, 0, q, out, lse), InvalidArgument);
  CHECK_THROWS_AS(cache.partial({5, 5}, 0, q, out, lse), UnknownSequence);
}

// The digests alone take more than the cap: the least that works is said, and works to the end.
TEMPLATE_TEST_CASE("a cap below the digests' own size", "[cache][compact][bad input]",
                   presets::KvFreeze<>, presets::UniformQuantised<2>) {
  int const tokens = kvfreeze_test::short_tests() ? 800 : 2000;
  std::size_t const digests = static_cast<std::size_t>(4 * (tokens / 64)) *
                              detail::digest_t<typename TestType::scorer_type>::bytes(16);
  REQUIRE(digests > static_cast<std::size_t>(10 * tokens));
  Limits limits{.max_tokens = tokens, .max_sequences = 1, .resident_bytes = digests - 1};
  std::size_t least = 0;
  try {
    TestType const cache(six_heads, limits);
    FAIL("accepted");
  } catch (CapacityError const& error) {
    least = error.needed();
    CHECK(error.available() == digests - 1);
    CHECK_THAT(error.what(), Contains("Limits::resident_bytes is " + std::to_string(digests - 1)) &&
                                 Contains("needs at least " + std::to_string(least)));
  }
  REQUIRE(least > digests);
  limits.resident_bytes = least - 1;
  REQUIRE_THROWS_AS(TestType(six_heads, limits), CapacityError);
  limits.resident_bytes = least;
  TestType cache(six_heads, limits);
  auto const sequence = cache.open();
  kvfreeze_test::InputStream stream(six_heads, 5);
  for (int length = 0; length < tokens;) {
    int const chunk = std::min(length % 3 == 0 ? 90 : 1, tokens - length);
    for (int layer = 0; layer < six_heads.layers; ++layer) {
      auto input = stream.next(chunk);
      cache.attend(sequence, layer, input.q, input.k, input.v, input.out);
      REQUIRE(cache.ledger().resident() <= least);
    }
    length = cache.advance(sequence).length;
    REQUIRE(cache.ledger().resident() <= least);
  }
}

TEST_CASE("a lane of the ladder has as many query heads as the model", "[cache][compact]") {
  constexpr Shape many{.layers = 1, .query_heads = 768, .kv_heads = 12, .head_dim = 8};
  using Ladder = KvFreezeCache<Layout<Half, 1, Grouping::layer, LadderRows>,
                               InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<>, HostTier,
                               NeverTrigger>;
  Ladder cache(many, {.max_tokens = 256, .window = 8}, {}, {.stay = 1, .every = 1, .dense = false});
  kvfreeze_test::CheckedSequence<Ladder> sequence(cache, 9);
  sequence.attend(kvfreeze_test::short_tests() ? 80 : 140);
  for (int i = 0; i < (kvfreeze_test::short_tests() ? 3 : 8); ++i) {
    sequence.attend(1);
  }
  REQUIRE(cache.rows(sequence.handle()).compact > 0);
}
