#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/trigger/any_of.hpp>
#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>
#include <kvfreeze/trigger/query_drift_trigger.hpp>

#include <catch2/catch.hpp>

#include <vector>

using namespace kvfreeze;

namespace {

template <class Trigger>
std::vector<Recovery> run(Trigger& trigger, int steps, float missed_mass) {
  std::vector<Recovery> verdicts;
  for (int i = 0; i < steps; ++i) {
    verdicts.push_back(trigger.observe({.missed_mass = missed_mass}));
  }
  return verdicts;
}

constexpr Recovery none = Recovery::none;
constexpr Recovery soft = Recovery::soft;

}  // namespace

TEST_CASE("missed mass climbs while it persists, at its own pace", "[trigger]") {
  MissedMassTrigger trigger{.limit = 0.1F, .patience = 2, .cooldown = 3};
  REQUIRE(run(trigger, 14, 0.2F) ==
          std::vector<Recovery>{none, soft, none, none, none, Recovery::window, none, none, none,
                                Recovery::full, none, none, none, Recovery::full});
}

TEST_CASE("missed mass that goes away starts again at SR", "[trigger]") {
  MissedMassTrigger trigger{.limit = 0.1F, .patience = 2, .cooldown = 3};
  REQUIRE(run(trigger, 2, 0.2F).back() == soft);
  REQUIRE(run(trigger, 5, 0.1F) == std::vector<Recovery>(5, none));  // the limit itself is fine
  REQUIRE(run(trigger, 2, 0.2F).back() == soft);
  static_cast<void>(run(trigger, 1, 0.0F));  // one good step is not enough
  REQUIRE(run(trigger, 3, 0.2F).back() == Recovery::window);
}

TEST_CASE("missed mass needs patience", "[trigger]") {
  MissedMassTrigger trigger{.patience = 3};
  for (int i = 0; i < 20; ++i) {
    REQUIRE(run(trigger, 2, 0.5F) == std::vector<Recovery>(2, none));
    REQUIRE(run(trigger, 1, 0.0F).back() == none);
  }
  static_cast<void>(run(trigger, 2, 0.5F));
  trigger.reset();
  REQUIRE(trigger.memory == MissedMassTrigger::Memory{});
}

TEST_CASE("a query that turns away asks for SR", "[trigger]") {
  QueryDriftTrigger trigger{.cosine = 0.8F};
  REQUIRE(trigger.observe({.query_cosine = 0.8F}) == none);
  REQUIRE(trigger.observe({.query_cosine = 0.79F}) == soft);
  REQUIRE(trigger.observe({}) == none);
}

TEST_CASE("any_of takes the hardest answer, and all of its triggers observe", "[trigger]") {
  AnyOf trigger{QueryDriftTrigger{}, MissedMassTrigger{.patience = 1, .cooldown = 0},
                NeverTrigger{}};
  static_assert(
      std::is_same_v<decltype(trigger), AnyOf<QueryDriftTrigger, MissedMassTrigger, NeverTrigger>>);
  StepSignals const drift{.query_cosine = 0.0F};
  StepSignals const both{.missed_mass = 0.5F, .query_cosine = 0.0F};
  REQUIRE(trigger.observe(drift) == soft);
  REQUIRE(trigger.observe(both) == soft);
  REQUIRE(trigger.observe(both) == Recovery::window);
  REQUIRE(trigger.observe(both) == Recovery::full);
  REQUIRE(trigger.observe(drift) == soft);
  trigger.reset();
  REQUIRE(trigger.observe({}) == none);
  REQUIRE(trigger.observe(both) == soft);
}

TEST_CASE("any_of is the sum of its triggers' needs", "[trigger]") {
  EntropyLadderTrigger::Settings settings;
  settings.window_steps = 64;
  settings.rewind_tokens = 5;
  AnyOf const trigger{MissedMassTrigger{}, EntropyLadderTrigger(settings)};
  using Trigger = AnyOf<MissedMassTrigger, EntropyLadderTrigger>;
  REQUIRE(detail::highest_recovery<Trigger>() == Recovery::rewalk);
  REQUIRE(detail::highest_recovery<AnyOf<NeverTrigger, QueryDriftTrigger>>() == soft);
  REQUIRE_FALSE(detail::needs_query_cosine<Trigger>());
  REQUIRE(detail::needs_query_cosine<AnyOf<NeverTrigger, NeverTrigger, QueryDriftTrigger>>());
  REQUIRE(trigger.window_steps() == 64);
  REQUIRE(trigger.rewind_tokens() == 16);  // the default of a trigger that does not say
  REQUIRE_NOTHROW(trigger.validate());
  REQUIRE_THROWS_AS((AnyOf{NeverTrigger{}, MissedMassTrigger{.limit = 2.0F}}.validate()),
                    InvalidArgument);
}

TEST_CASE("triggers reject settings out of range", "[trigger]") {
  REQUIRE_THROWS_AS(MissedMassTrigger{.limit = -1.0F}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(MissedMassTrigger{.patience = 0}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(MissedMassTrigger{.cooldown = -1}.validate(), InvalidArgument);
  REQUIRE_THROWS_AS(QueryDriftTrigger{.cosine = 1.5F}.validate(), InvalidArgument);
}
