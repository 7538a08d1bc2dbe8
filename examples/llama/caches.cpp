#include "caches.hpp"

#include "presets/presets.hpp"
#include "user_error.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace llama {

namespace {

std::string plain_letters(std::string_view name) {
  std::string letters;
  for (char const c : name) {
    if (c != '-' && c != '_') {
      letters += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return letters;
}

}  // namespace

std::span<Preset const> presets() {
  static std::array const own{
      Preset{"KvFreeze", true, true,
             "the fidelity ladder: every row as well as the current query needs it (default)",
             &make_kv_freeze},
      Preset{"ExactRecall", true, true,
             "recall before attention by key digests; rows exact or frozen", &make_exact_recall},
      Preset{"UniformQuantised8", false, true, "all rows at 8 bits outside of sinks and window",
             &make_uniform_quantised_8},
      Preset{"UniformQuantised4", false, true,
             "the same at 4 bits: the yardstick of quality per byte", &make_uniform_quantised_4},
      Preset{"AsrKfEgr", true, true,
             "the paper's rules; sleeping rows ask their digest before they move",
             &make_asr_kf_egr},
      Preset{"AsrKfEgrEager", true, true,
             "the paper's rules to the letter: rows thaw when their timer ends",
             &make_asr_kf_egr_eager},
      Preset{"StreamingLlm", false, false, "sinks and a window of recent rows, the rest is dropped",
             &make_streaming_llm},
      Preset{"Plain", true, true, "every row exact, always: what the others are measured against",
             &make_plain},
  };
  static std::vector<Preset> const all = [] {
    std::vector<Preset> list(own.begin(), own.end());
    list.insert(list.end(), published_presets().begin(), published_presets().end());
    return list;
  }();
  return all;
}

Preset const& find_preset(std::string_view name) {
  auto const same_name = [&](Preset const& p) {
    return plain_letters(p.name) == plain_letters(name);
  };
  auto const found = std::find_if(presets().begin(), presets().end(), same_name);
  if (found != presets().end()) {
    return *found;
  }
  std::string known;
  for (Preset const& preset : presets()) {
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  throw UserError("unknown preset '" + std::string(name) + "'; there are " + known +
                  (published_presets().empty()
                       ? "; published systems and variants: examples/run.sh --published COMMAND ..."
                       : ""));
}

std::size_t full_bytes(kvfreeze::Shape const& shape, int tokens) {
  auto const size = [](int n) { return static_cast<std::size_t>(n); };
  std::size_t const row = 2 * 2 * size(shape.head_dim) * size(shape.kv_heads);
  return row * size(shape.layers) * size(tokens);
}

}  // namespace llama
