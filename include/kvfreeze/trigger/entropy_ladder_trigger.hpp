#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/running_moments.hpp>
#include <kvfreeze/trigger/entropy_ladder_settings.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief Watches the entropy H of the next-token distribution and climbs SR → WR → FR → RR.
///
/// ASR-KF-EGR (arXiv 2512.11221, §3.6) names the ladder and leaves the rule open; this is ours.
/// - Running mean μ and variance σ² of H (nats), exponentially weighted, arithmetic at first. They
///   learn from the warm-up and from steps that are not high: trouble must not become the norm.
/// - high: a spike, H > μ + z·σ and H - μ > min_rise; or a collapse, H and the likeliest token's
///   probability as in a loop for `collapse_steps` in a row.
/// - low: H below the lower threshold μ + z'·σ and no run of collapsed steps. Between is a dead
///   zone that counts for neither.
/// - `up` highs in a row act, then the next action is one level harder; `down` lows in a row make
///   it one level milder. An action is followed by its level's cool-down.
/// - RR happens `max_rewalks` times at one place: each within `rewalk_range` tokens of where it
///   was last due. When the whole ladder did not help, the text is taken for what it is: the
///   statistics start again, warm-up included.
///
/// Steps without logits or with a non-finite entropy are ignored. Deterministic.
/// @complexity O(1)
class EntropyLadderTrigger {
 public:
  using Settings = EntropyLadderSettings;
  static constexpr Recovery highest = Recovery::rewalk;

  EntropyLadderTrigger() = default;

  constexpr explicit EntropyLadderTrigger(Settings const& settings) : settings_(settings) {}

  KVFREEZE_HD Recovery observe(StepSignals const& signals) noexcept {
    if (!signals.has_logits || !detail::is_finite(signals.entropy)) {
      return Recovery::none;
    }
    Verdict const verdict = judge(signals);
    bool const warm = memory_.entropy.seen >= settings_.warmup;
    if (verdict != Verdict::high || !warm) {
      memory_.entropy.learn(signals.entropy, settings_.decay);
    }
    if (!warm) {
      return Recovery::none;
    }
    memory_.highs = verdict == Verdict::high ? memory_.highs + 1 : 0;
    memory_.lows = verdict == Verdict::low ? memory_.lows + 1 : 0;
    if (memory_.lows >= settings_.down) {
      memory_.lows = 0;
      memory_.next = memory_.next > Recovery::soft ? beside(memory_.next, -1) : Recovery::soft;
    }
    if (memory_.wait > 0) {
      --memory_.wait;
      return Recovery::none;
    }
    return memory_.highs >= settings_.up ? act(signals.length) : Recovery::none;
  }

  KVFREEZE_HD void reset() noexcept { memory_ = {}; }

  [[nodiscard]] constexpr Settings const& settings() const noexcept { return settings_; }

  /// N of WR, steps.
  [[nodiscard]] KVFREEZE_HD constexpr int window_steps() const noexcept {
    return settings_.window_steps;
  }

  /// k of RR, tokens.
  [[nodiscard]] KVFREEZE_HD constexpr int rewind_tokens() const noexcept {
    return settings_.rewind_tokens;
  }

  /// @throws InvalidArgument if a setting is out of its range
  void validate() const { settings_.validate(); }

 private:
  enum class Verdict : std::uint8_t { low, between, high };

  struct Memory {
    detail::RunningMoments entropy;
    int highs = 0;      ///< in a row
    int lows = 0;       ///< in a row
    int collapsed = 0;  ///< in a row
    int wait = 0;       ///< steps left of the cool-down
    int rewalks = 0;    ///< near `rewalk_at`
    int rewalk_at = 0;  ///< length when RR was last due
    Recovery next = Recovery::soft;
  };

  KVFREEZE_HD static constexpr Recovery beside(Recovery level, int steps) noexcept {
    return static_cast<Recovery>(static_cast<int>(level) + steps);
  }

  KVFREEZE_HD Verdict judge(StepSignals const& signals) noexcept {
    bool const collapsed = signals.entropy < settings_.collapse_entropy &&
                           signals.top_probability > settings_.collapse_probability;
    memory_.collapsed = !collapsed                                     ? 0
                        : memory_.collapsed < settings_.collapse_steps ? memory_.collapsed + 1
                                                                       : settings_.collapse_steps;
    if (memory_.collapsed == settings_.collapse_steps) {
      return Verdict::high;
    }
    if (memory_.entropy.seen == 0) {
      return Verdict::between;
    }
    float const rise = signals.entropy - memory_.entropy.mean;
    if (rise > settings_.min_rise && memory_.entropy.beyond(rise, settings_.spike_sigmas)) {
      return Verdict::high;
    }
    // A lone sure token is calm; a run of them may be the start of a loop.
    bool const calm =
        rise <= settings_.min_rise || !memory_.entropy.beyond(rise, settings_.calm_sigmas);
    return calm && 2 * memory_.collapsed <= settings_.collapse_steps ? Verdict::low
                                                                     : Verdict::between;
  }

  KVFREEZE_HD Recovery act(int length) noexcept {
    memory_.highs = 0;
    if (memory_.next > settings_.ceiling) {
      start_again();
      return Recovery::none;
    }
    Recovery const action = memory_.next;
    memory_.wait = settings_.cooldown(action);
    if (action != Recovery::rewalk) {
      memory_.next = beside(action, 1);
      return action;
    }
    int const distance = length - memory_.rewalk_at;
    if ((distance < 0 ? -distance : distance) > settings_.rewalk_range) {
      memory_.rewalks = 0;
    }
    memory_.rewalk_at = length;
    if (memory_.rewalks == settings_.max_rewalks) {
      start_again();
      return Recovery::none;
    }
    ++memory_.rewalks;
    return action;
  }

  /// Forgets the statistics and the level, but not where it rewound: that bound has to hold.
  KVFREEZE_HD void start_again() noexcept {
    Memory fresh;
    fresh.rewalks = memory_.rewalks;
    fresh.rewalk_at = memory_.rewalk_at;
    memory_ = fresh;
  }

  Settings settings_{};
  Memory memory_{};
};

static_assert(TriggerPolicy<EntropyLadderTrigger>);

}  // namespace kvfreeze
