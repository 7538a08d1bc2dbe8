#pragma once

/// @file
/// @brief What every trigger has to obey: `kvfreeze::laws::trigger(MyTrigger{})`.

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/policy_traits.hpp>

#include "random.hpp"

#include <catch2/catch.hpp>

#include <vector>

namespace kvfreeze::laws {

/// Calm stretches and troubles of all kinds.
inline std::vector<StepSignals> signal_history(std::uint32_t seed, int steps) {
  Random random(seed);
  std::vector<StepSignals> history;
  int trouble = 0;
  for (int i = 0; i < steps; ++i) {
    if (i % 50 == 0) {
      trouble = static_cast<int>(random() % 4U);
    }
    StepSignals signals;
    signals.step = static_cast<std::uint32_t>(i);
    signals.length = 100 + i;
    signals.has_logits = random() % 16U != 0;
    signals.entropy = trouble == 1 ? 6.0F : trouble == 2 ? 0.01F : 2.0F * random.uniform();
    signals.top_probability = trouble == 2 ? 0.999F : 0.5F;
    signals.missed_mass = trouble == 3 ? 0.6F : 0.02F * random.uniform();
    signals.missed_mass_max = signals.missed_mass;
    signals.query_cosine = random.uniform();
    history.push_back(signals);
  }
  return history;
}

/// The same calm step for ever is no trouble.
template <TriggerPolicy Trigger>
void constant_calm_input_asks_for_nothing(Trigger trigger) {
  for (float const entropy : {0.2F, 1.0F, 4.0F}) {
    trigger.reset();
    for (int i = 0; i < 2000; ++i) {
      StepSignals const signals{.step = static_cast<std::uint32_t>(i),
                                .length = i,
                                .has_logits = true,
                                .entropy = entropy,
                                .top_probability = 0.6F};
      REQUIRE(trigger.observe(signals) == Recovery::none);
    }
  }
}

template <TriggerPolicy Trigger>
std::vector<Recovery> verdicts(Trigger& trigger, std::uint32_t seed) {
  std::vector<Recovery> verdicts;
  for (StepSignals const& signals : signal_history(seed, 1000)) {
    verdicts.push_back(trigger.observe(signals));
  }
  return verdicts;
}

/// reset() forgets everything but the settings; copies share nothing.
template <TriggerPolicy Trigger>
void reset_is_a_fresh_copy(Trigger const& fresh) {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    Trigger used = fresh;
    static_cast<void>(verdicts(used, seed + 100));
    used.reset();
    Trigger copy = fresh;
    Trigger third = copy;
    REQUIRE(verdicts(used, seed) == verdicts(copy, seed));
    REQUIRE(verdicts(third, seed) == verdicts(used = fresh, seed));
  }
}

template <TriggerPolicy Trigger>
void answers_stay_below_the_highest(Trigger trigger) {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    for (Recovery const recovery : verdicts(trigger, seed)) {
      REQUIRE(recovery <= detail::highest_recovery<Trigger>());
    }
  }
}

template <TriggerPolicy Trigger>
void trigger(Trigger const& policy) {
  REQUIRE_NOTHROW(detail::validate_policy(policy));
  REQUIRE(detail::window_steps(policy) >= 1);
  REQUIRE(detail::rewind_tokens(policy) >= 1);
  constant_calm_input_asks_for_nothing(policy);
  reset_is_a_fresh_copy(policy);
  answers_stay_below_the_highest(policy);
}

}  // namespace kvfreeze::laws
