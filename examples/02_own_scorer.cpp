// A policy of one's own: rows that ever mattered are remembered, and forgotten slowly.
#include <kvfreeze/kvfreeze.hpp>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

// [own scorer]
struct PeakMassScorer {
  struct State {
    float peak;
  };

  using Digest = kvfreeze::KeyCodes<4>;  // how a frozen key answers queries
  static constexpr auto evidence = kvfreeze::Evidence::mass;

  void update(State& state, kvfreeze::RowEvidence const& row) const noexcept {
    state.peak = std::max(row.mass, 0.99F * state.peak);
  }

  float score(State const& state, kvfreeze::RowEvidence const&) const noexcept {
    return state.peak;
  }
};

// [/own scorer]
static_assert(kvfreeze::ScorerPolicy<PeakMassScorer>);

int main() {
  // Four policies named: scorer, scheduler, tier, trigger.
  kvfreeze::KvFreezeCache<kvfreeze::Layout<>, PeakMassScorer, kvfreeze::FixedBudgetScheduler,
                          kvfreeze::HostTier, kvfreeze::NeverTrigger>
      cache({.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64}, {.max_tokens = 1024},
            {}, kvfreeze::FixedBudgetScheduler{.fraction = 0.25F});

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(4 * 64), k(2 * 64), v(2 * 64), out(4 * 64);
  auto const sequence = cache.open();
  kvfreeze::StepReport report;
  for (int token = 0; token < 600; ++token) {
    for (int layer = 0; layer < 2; ++layer) {
      for (auto* x : {&q, &k, &v}) {
        std::generate(x->begin(), x->end(), [&] { return normal(random); });
      }
      cache.attend(sequence, layer, q, k, v, out);
    }
    report = cache.advance(sequence);
  }
  std::printf("%d tokens, %llu of %llu rows exact, %.1f %% of the mass not attended\n",
              report.length, static_cast<unsigned long long>(report.rows.exact),
              static_cast<unsigned long long>(report.rows.total()),
              100.0 * static_cast<double>(report.missed_mass));
}
