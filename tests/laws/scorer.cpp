#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/ema_mass_scorer.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/mean_abs_dot_scorer.hpp>
#include <kvfreeze/scorer/recency_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>

#include "../support/archetypes.hpp"
#include "scorer_laws.hpp"

#include <tuple>

using namespace kvfreeze;

using Scorers = std::tuple<MeanAbsDotScorer<>, InstantMassScorer<>, EmaMassScorer<>,
                           CumulativeMassScorer<>, WindowMassScorer<>, RecencyScorer,
                           KeyNormScorer<>, archetypes::MinimalScorer, archetypes::StatefulScorer>;

TEMPLATE_LIST_TEST_CASE("scorer laws", "[laws][scorer]", Scorers) { laws::scorer(TestType{}); }
