// Shares that each sequence has of its own.

#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/published_presets.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>
#include <random>
#include <sstream>
#include <vector>

namespace {

using namespace kvfreeze;

constexpr Shape shape{.layers = 2, .query_heads = 2, .kv_heads = 2, .head_dim = 16};
using Cache = presets::Evicting<WindowMassScorer<>, LaneBudgetScheduler<SequenceShares>>;

Cache make_cache() {
  return Cache(shape, {.max_tokens = 128, .max_sequences = 3, .sinks = 2, .window = 4}, {},
               {.granules = 40});
}

/// Decodes tokens of no meaning.
void decode(Cache& cache, Sequence sequence, int tokens) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> rows(32);
  std::vector<float> out(32);
  for (int i = 0; i < tokens; ++i) {
    std::generate(rows.begin(), rows.end(), [&] { return normal(random); });
    for (int layer = 0; layer < shape.layers; ++layer) {
      cache.attend(sequence, layer, rows, rows, rows, out);
    }
    cache.advance(sequence);
  }
}

/// Exact rows of each lane.
std::vector<int> exact_rows(Cache const& cache, Sequence sequence) {
  std::vector<int> counts;
  std::vector<Fidelity> rows(static_cast<std::size_t>(cache.length(sequence)));
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int lane = 0; lane < cache.lanes_per_layer(); ++lane) {
      cache.fidelities(sequence, layer, lane, rows);
      counts.push_back(static_cast<int>(std::count(rows.begin(), rows.end(), Fidelity::exact)));
    }
  }
  return counts;
}

std::vector<float> const uneven{0.5F, 1.0F, 1.75F, 0.75F};

}  // namespace

TEST_CASE("Each sequence's budget is dealt by its own shares", "[cache]") {
  Cache cache = make_cache();
  Sequence const plain = cache.open();
  Sequence const own = cache.open();
  cache.set_shares(own, uneven);
  decode(cache, plain, 100);
  decode(cache, own, 100);
  CHECK(exact_rows(cache, plain) == std::vector<int>{40, 40, 40, 40});
  CHECK(exact_rows(cache, own) == std::vector<int>{20, 40, 70, 30});
  cache.close(own);
  Sequence const fresh = cache.open();  // begins with equal shares
  decode(cache, fresh, 100);
  CHECK(exact_rows(cache, fresh) == std::vector<int>{40, 40, 40, 40});
}

TEST_CASE("Copies keep a sequence's shares", "[cache]") {
  Cache cache = make_cache();
  Sequence const own = cache.open();
  cache.set_shares(own, uneven);
  decode(cache, own, 12);
  std::stringstream saved;
  cache.save(own, saved);
  Sequence const restored = cache.restore(saved);
  Sequence const forked = cache.fork(own);
  decode(cache, restored, 88);
  decode(cache, forked, 88);
  CHECK(exact_rows(cache, restored) == std::vector<int>{20, 40, 70, 30});
  CHECK(exact_rows(cache, forked) == std::vector<int>{20, 40, 70, 30});
}

TEST_CASE("Shares out of range change nothing", "[cache]") {
  Cache cache = make_cache();
  Sequence const own = cache.open();
  cache.set_shares(own, uneven);
  CHECK_THROWS_AS(cache.set_shares(own, std::vector<float>(3, 1.0F)), InvalidArgument);
  for (float const bad : {-0.1F, 1025.0F, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK_THROWS_AS(cache.set_shares(own, std::vector<float>{1.0F, 1.0F, 1.0F, bad}),
                    InvalidArgument);
  }
  Sequence const closed = cache.open();
  cache.close(closed);
  CHECK_THROWS_AS(cache.set_shares(closed, uneven), UnknownSequence);
  decode(cache, own, 100);
  CHECK(exact_rows(cache, own) == std::vector<int>{20, 40, 70, 30});
}
