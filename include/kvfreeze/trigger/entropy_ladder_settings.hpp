#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/types.hpp>

#include <string>

namespace kvfreeze {

/// @brief Settings of EntropyLadderTrigger (`EntropyLadderTrigger::Settings`).
///
/// The thresholds belong to a model: take percentiles of runs without compression. The counters
/// follow published practice (8 up and 5 down with a dead zone; without them six alarms in ten were
/// false), with fewer ups because an action here costs bytes, not quality.
struct EntropyLadderSettings {
  float decay = 0.98F;        ///< share of mean and variance that a step keeps, in [0, 1)
  float spike_sigmas = 3.0F;  ///< z: above μ + zσ is high, in [0, 100]
  float calm_sigmas = 1.5F;   ///< z': below μ + z'σ is low, in [0, spike_sigmas]
  float min_rise = 0.5F;      ///< nats above μ below which nothing is high, in [0, 100]

  float collapse_entropy = 0.05F;      ///< nats, in [0, 100]; 0 switches the collapse test off
  float collapse_probability = 0.99F;  ///< of the likeliest token, in [0, 1]
  int collapse_steps = 32;             ///< such steps in a row that make a collapse, in [1, 65536]

  int up = 4;       ///< highs in a row that act, in [1, 65536]
  int down = 5;     ///< lows in a row that step down a level, in [1, 65536]
  int warmup = 32;  ///< steps to learn from before the first action, in [1, 65536]

  int soft_cooldown = 8;     ///< steps without another action after SR, in [0, 2^24]
  int window_cooldown = 16;  ///< after WR
  int full_cooldown = 32;    ///< after FR
  int rewalk_cooldown = 64;  ///< after RR

  int window_steps = 32;   ///< N of WR, in [1, 2^24]
  int rewind_tokens = 16;  ///< k of RR, in [1, 2^24]
  int max_rewalks = 2;     ///< RR at one place, in [0, 65536]
  int rewalk_range = 64;   ///< tokens from one RR to the next at the same place, in [0, 2^24]

  Recovery ceiling = Recovery::rewalk;  ///< the hardest level to ask for

  /// Steps of the cool-down after an action.
  KVFREEZE_HD constexpr int cooldown(Recovery level) const noexcept {
    switch (level) {
      case Recovery::soft:
        return soft_cooldown;
      case Recovery::window:
        return window_cooldown;
      case Recovery::full:
        return full_cooldown;
      case Recovery::rewalk:
        return rewalk_cooldown;
      case Recovery::none:
        break;
    }
    return 0;
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    auto const require = [](char const* field, double value, double low, double high) {
      std::string const name = std::string("EntropyLadderTrigger::Settings::") + field;
      detail::require_range(name.c_str(), value, low, high);
    };
    int const most = 1 << 24;
    require("decay", decay, 0, 0x1.fffffep-1);
    require("spike_sigmas", spike_sigmas, 0, 100);
    require("calm_sigmas", calm_sigmas, 0, spike_sigmas);
    require("min_rise", min_rise, 0, 100);
    require("collapse_entropy", collapse_entropy, 0, 100);
    require("collapse_probability", collapse_probability, 0, 1);
    require("collapse_steps", collapse_steps, 1, 65536);
    require("up", up, 1, 65536);
    require("down", down, 1, 65536);
    require("warmup", warmup, 1, 65536);
    require("soft_cooldown", soft_cooldown, 0, most);
    require("window_cooldown", window_cooldown, 0, most);
    require("full_cooldown", full_cooldown, 0, most);
    require("rewalk_cooldown", rewalk_cooldown, 0, most);
    require("window_steps", window_steps, 1, most);
    require("rewind_tokens", rewind_tokens, 1, most);
    require("max_rewalks", max_rewalks, 0, 65536);
    require("rewalk_range", rewalk_range, 0, most);
    require("ceiling", static_cast<double>(ceiling), 0, static_cast<double>(Recovery::rewalk));
  }
};

}  // namespace kvfreeze
