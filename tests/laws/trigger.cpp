#include <kvfreeze/trigger/any_of.hpp>
#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>
#include <kvfreeze/trigger/query_drift_trigger.hpp>

#include "../support/archetypes.hpp"
#include "trigger_laws.hpp"

#include <tuple>

using namespace kvfreeze;

using Triggers = std::tuple<NeverTrigger, MissedMassTrigger, EntropyLadderTrigger,
                            QueryDriftTrigger, AnyOf<MissedMassTrigger>,
                            AnyOf<MissedMassTrigger, EntropyLadderTrigger, QueryDriftTrigger>,
                            archetypes::MinimalTrigger, archetypes::StatefulTrigger>;

TEMPLATE_LIST_TEST_CASE("trigger laws", "[laws][trigger]", Triggers) { laws::trigger(TestType{}); }
