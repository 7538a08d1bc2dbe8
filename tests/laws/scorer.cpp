#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/ema_mass_scorer.hpp>
#include <kvfreeze/scorer/expected_attention_scorer.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/scorer/key_difference_scorer.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/lag_scorer.hpp>
#include <kvfreeze/scorer/mean_abs_dot_scorer.hpp>
#include <kvfreeze/scorer/mean_variance_scorer.hpp>
#include <kvfreeze/scorer/recency_scorer.hpp>
#include <kvfreeze/scorer/value_key_ratio_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>

#include "../support/archetypes.hpp"
#include "scorer_laws.hpp"

#include <tuple>

using namespace kvfreeze;

using Scorers =
    std::tuple<MeanAbsDotScorer<>, InstantMassScorer<>, EmaMassScorer<>, CumulativeMassScorer<>,
               WindowMassScorer<>, RecencyScorer, KeyNormScorer<>, MeanVarianceScorer<>,
               KeyDifferenceScorer<>, ValueKeyRatioScorer<>, ExpectedAttentionScorer<>, LagScorer<>,
               archetypes::MinimalScorer, archetypes::StatefulScorer>;

TEMPLATE_LIST_TEST_CASE("scorer laws", "[laws][scorer]", Scorers) { laws::scorer(TestType{}); }

TEST_CASE("scorer laws away from the defaults", "[laws][scorer]") {
  laws::scorer(CumulativeMassScorer<>{.per_query = true});
  laws::scorer(WindowMassScorer<>{.steps = 7, .pooled = 63});
  laws::scorer(MeanVarianceScorer<>{.gamma = 1e6F, .pooled = 1});
}
