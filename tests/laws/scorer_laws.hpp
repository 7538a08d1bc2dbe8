#pragma once

/// @file
/// @brief What every scorer has to obey. Run it on your own: `kvfreeze::laws::scorer(MyScorer{})`.

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/policy_traits.hpp>

#include "random.hpp"

#include <catch2/catch.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace kvfreeze::laws {

/// A plausible history of one granule: sleeps, repeated steps, zero and full mass.
inline std::vector<RowEvidence> row_history(std::uint32_t seed, int steps) {
  Random random(seed);
  std::vector<RowEvidence> rows;
  RowEvidence row;
  row.position = static_cast<std::int32_t>(random() % 4096U);
  row.key_norm = 20.0F * random.uniform();
  row.step = random() % 100U;
  for (int i = 0; i < steps; ++i) {
    float const u = random.uniform();
    row.mass = u < 0.1F ? 0.0F : u > 0.95F ? 1.0F : std::exp2(-20.0F * random.uniform());
    row.mean_abs_dot = 30.0F * random.uniform();
    row.rating = random.uniform();
    row.age += 1;
    row.step += u < 0.05F ? 50U : 1U;
    rows.push_back(row);
  }
  return rows;
}

template <ScorerPolicy Scorer>
void scores_are_finite_and_not_negative(Scorer const& scorer) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    typename Scorer::State state{};
    for (RowEvidence const& row : row_history(seed, 200)) {
      REQUIRE(scorer.score(state, row) >= 0.0F);  // before an update too: a woken granule
      scorer.update(state, row);
      float const score = scorer.score(state, row);
      REQUIRE(std::isfinite(score));
      REQUIRE(score >= 0.0F);
    }
  }
}

/// Equal histories give equal bits; looking at a score changes nothing.
template <ScorerPolicy Scorer>
void scores_depend_on_the_history_alone(Scorer const& scorer) {
  typename Scorer::State once{};
  typename Scorer::State again{};
  Scorer const copy = scorer;
  for (RowEvidence const& row : row_history(7, 300)) {
    scorer.update(once, row);
    static_cast<void>(scorer.score(once, row));
    copy.update(again, row);
    REQUIRE(std::bit_cast<std::uint32_t>(scorer.score(once, row)) ==
            std::bit_cast<std::uint32_t>(copy.score(again, row)));
  }
}

template <ScorerPolicy Scorer>
void scorer(Scorer const& policy) {
  static_assert(DigestPolicy<detail::digest_t<Scorer>>);
  REQUIRE_NOTHROW(detail::validate_policy(policy));
  REQUIRE(detail::query_window(policy) >= 0);
  scores_are_finite_and_not_negative(policy);
  scores_depend_on_the_history_alone(policy);
}

}  // namespace kvfreeze::laws
