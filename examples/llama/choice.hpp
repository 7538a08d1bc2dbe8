#pragma once

#include "caches.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// @brief A preset with settings of its own, which go before the command line's.
struct Choice {
  Choice() = default;

  // NOLINTNEXTLINE(google-explicit-constructor): a preset is a choice without settings
  Choice(Preset const& chosen) : preset(&chosen), label(chosen.name) {}

  Preset const* preset = nullptr;
  std::string label;               ///< for tables: the preset's name and the settings as given
  std::optional<double> resident;  ///< cap as a fraction of an ordinary cache's bytes
  std::optional<std::size_t> resident_bytes;
  std::optional<int> sinks;
  std::optional<int> window;
  std::optional<TierChoice> tier;
  std::vector<Knob> knobs;
  std::string calibration;  ///< file, or measured_on_prompt
  // What follows is not written by users: a command sets it.
  std::optional<int> context;     ///< the most tokens
  std::optional<int> cap_tokens;  ///< of the cache whose fraction `resident` is; else `context`
  bool measures_prompts = false;  ///< for caches that ask for it
};

/// @brief "KvFreeze:resident=0.15,stay=8;Plain" -> two choices. @see parse_names
/// @throws UserError for an unknown preset, or a value out of its range
std::vector<Choice> find_choices(std::string_view text);

/// @brief Where a command takes one preset only.
/// @throws UserError also if there are several
Choice find_choice(std::string_view text);

}  // namespace llama
