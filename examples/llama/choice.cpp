#include "choice.hpp"

#include "text.hpp"
#include "user_error.hpp"

#include <cmath>
#include <string>

namespace llama {

namespace {

/// A whole number of [0, 2^40].
std::size_t whole_number(std::string const& text, std::string const& setting) {
  double const value = parse_number(text, setting);
  if (value != std::floor(value) || value < 0.0 || value > std::ldexp(1.0, 40)) {
    throw UserError(setting + ": '" + text + "' is not a whole number");
  }
  return static_cast<std::size_t>(value);
}

int token_count(std::string const& text, std::string const& setting) {
  std::size_t const value = whole_number(text, setting);
  if (value > 1U << 20U) {
    throw UserError(setting + ": '" + text + "' is not in [0, 1048576]");
  }
  return static_cast<int>(value);
}

void apply(Choice& choice, std::string const& name, std::string const& value) {
  std::string const setting = "--preset: " + name;
  if (name == "resident") {
    choice.resident = parse_number(value, setting);
    if (*choice.resident <= 0.0 || *choice.resident > 1.0) {
      throw UserError(setting + ": '" + value + "' is not a fraction in (0, 1]");
    }
  } else if (name == "resident-bytes") {
    choice.resident_bytes = whole_number(value, setting);
  } else if (name == "window") {
    choice.window = token_count(value, setting);
  } else if (name == "sinks") {
    choice.sinks = token_count(value, setting);
  } else if (name == "tier") {
    if (value != "host" && value != "in-place") {
      throw UserError(setting + ": '" + value + "' is neither host nor in-place");
    }
    choice.tier = value == "host" ? TierChoice::host : TierChoice::in_place;
  } else if (name == "calibration") {
    choice.calibration = value;
  } else {
    choice.knobs.push_back({name, parse_number(value, setting)});
  }
}

}  // namespace

std::vector<Choice> find_choices(std::string_view text) {
  std::vector<Choice> choices;
  for (NamedSettings const& named : parse_names(text, "--preset")) {
    Choice choice(find_preset(named.name));
    choice.label += named.text.substr(named.name.size());
    for (auto const& [name, value] : named.settings) {
      apply(choice, name, value);
    }
    choices.push_back(choice);
  }
  return choices;
}

Choice find_choice(std::string_view text) {
  std::vector<Choice> const choices = find_choices(text);
  if (choices.size() > 1) {
    throw UserError("--preset: this command takes one, there are " +
                    std::to_string(choices.size()));
  }
  return choices.front();
}

}  // namespace llama
