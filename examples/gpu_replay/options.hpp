#pragma once

#include "../llama/user_error.hpp"

#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

namespace replay {

/// What the command line says.
struct Options {
  std::string file;
  int layers = 0;  ///< the first ones; 0: all
  int steps = 0;   ///< the first ones; 0: all
  int every = 50;  ///< steps between two lines of progress
  bool dense = false;
  double tolerance = 2e-5;
};

constexpr char const* usage =
    "gpu_replay FILE [--layers N] [--steps N] [--every N] [--tolerance X] [--dense]\n"
    "  FILE         made by examples/run.sh record --steps --rows N --text TEXT --out FILE\n"
    "  --layers N   only the first layers\n"
    "  --steps N    only the first rows\n"
    "  --every N    steps between two lines\n"
    "  --tolerance X  of attention's outputs, of a layer's largest (2e-5)\n"
    "  --dense      lanes may stay whole while that is faster, as by default in the library\n";

/// @throws UserError for an option that is not known or a number out of its range
inline Options parse(int argc, char** argv) {
  Options o;
  auto const number = [](std::string_view option, std::string_view text, auto low) {
    auto value = low;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= low)) {
      throw llama::UserError(std::string(option) + ": '" + std::string(text) +
                             "' is not a number from " + std::to_string(low) + " on");
    }
    return value;
  };
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    bool const has_value = i + 1 < argc;
    if (option == "--dense") {
      o.dense = true;
    } else if (option == "--layers" && has_value) {
      o.layers = number(option, argv[++i], 1);
    } else if (option == "--steps" && has_value) {
      o.steps = number(option, argv[++i], 1);
    } else if (option == "--every" && has_value) {
      o.every = number(option, argv[++i], 1);
    } else if (option == "--tolerance" && has_value) {
      o.tolerance = number(option, argv[++i], 0.0);
    } else if (!option.starts_with("-") && o.file.empty()) {
      o.file = option;
    } else {
      throw llama::UserError("'" + std::string(option) + "' does not fit here\n" + usage);
    }
  }
  if (o.file.empty()) {
    throw llama::UserError(std::string("the file is missing\n") + usage);
  }
  return o;
}

}  // namespace replay
