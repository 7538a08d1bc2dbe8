#include <kvfreeze/kvfreeze.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;

constexpr Shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16};

/// Sleeps after each look, never asks the digest; only expiry brings a granule back.
struct ExpiringScheduler {
  static constexpr bool timed = true;
  static constexpr bool eager = true;

  Selection recall(LaneFacts const&) const noexcept { return Selection::none(); }

  Selection retain(LaneFacts const&) const noexcept { return Selection::none(); }

  int sleep(int) const noexcept { return 3; }
};

/// Remembers the largest key norm it was shown, and how often it was shown any.
template <Evidence Wanted>
struct LargestNormScorer {
  struct State {
    float largest;
    float updates;
  };

  using Digest = KeyCodes<4>;
  static constexpr Evidence evidence = Wanted;

  void update(State& state, RowEvidence const& row) const noexcept {
    state.largest = std::max(state.largest, row.key_norm);
    state.updates += 1.0F;
  }

  float score(State const& state, RowEvidence const&) const noexcept {
    return state.updates + state.largest;
  }
};

template <class Cache>
void feed(Cache& cache, Sequence sequence, int tokens, int at_once) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  auto const count = static_cast<std::size_t>(at_once);
  std::vector<float> q(count * 32);
  std::vector<float> k(count * 16);
  std::vector<float> v(count * 16);
  std::vector<float> out(count * 32);
  for (int token = 0; token < tokens; token += at_once) {
    for (auto* x : {&q, &k, &v}) {
      std::generate(x->begin(), x->end(), [&] { return normal(random); });
    }
    cache.attend(sequence, 0, q, k, v, out);
    cache.advance(sequence);
  }
}

}  // namespace

TEST_CASE("an eager scheduler gets expired granules back whatever it would recall", "[cache]") {
  using Tier = Statistics<HostTier>;
  KvFreezeCache<Layout<>, RecencyScorer, ExpiringScheduler, Tier, NeverTrigger> cache(
      shape, {.max_tokens = 256, .sinks = 0, .window = 4});
  auto const sequence = cache.open();
  feed(cache, sequence, 60, 1);
  // Each open row is away for three steps, back for one, and frozen again at its end.
  auto const before = cache.tier().counts().load.granules;
  feed(cache, sequence, 4, 1);
  auto const loaded = cache.tier().counts().load.granules - before;
  REQUIRE(loaded >= 55);
  REQUIRE(loaded <= 64);
}

TEMPLATE_TEST_CASE_SIG("a scorer with memory is updated with or without masses", "[cache]",
                       ((Evidence Wanted), Wanted), Evidence::none, Evidence::key) {
  using Scorer = LargestNormScorer<Wanted>;
  KvFreezeCache<Layout<>, Scorer, KeepAllScheduler, HostTier, NeverTrigger> cache(
      shape, {.max_tokens = 256, .sinks = 0, .window = 4});
  for (int const at_once : {1, 10}) {
    auto const sequence = cache.open();
    feed(cache, sequence, 40, at_once);
    auto const lane = cache.memory().lane(sequence.index, 0);
    typename Scorer::State const& oldest = lane.score(0, host::no_slot);
    REQUIRE(oldest.updates == static_cast<float>(40 / at_once));
    REQUIRE((oldest.largest > 0.0F) == (Wanted == Evidence::key));
    cache.close(sequence);
  }
}
