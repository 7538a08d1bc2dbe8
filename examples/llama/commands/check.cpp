#include "../engine.hpp"
#include "../ggml_attention.hpp"
#include "../presets/presets.hpp"
#include "../prose.hpp"
#include "../quality.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

namespace {

constexpr double most_difference = 1e-4;  // of a logit, with 32-bit weights and rows
constexpr double most_kl = 1e-2;          // nats, with the file's weights: they round activations

/// One line of the table.
struct Finding {
  std::string what;
  std::string value;
  std::string target;
  bool good;
};

/// How far logits are from ggml's, over all places.
struct Distance {
  double largest_difference = 0.0;
  double kl_mean = 0.0;
  std::size_t places = 0;
};

/// "AsrKfEgr" -> "asr_kf_egr".
std::string snake_case(std::string_view name) {
  std::string result;
  for (char const c : name) {
    bool const capital = c >= 'A' && c <= 'Z';
    result += capital && !result.empty() ? "_" : "";
    result += capital ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return result;
}

std::vector<int> read_tokens(Engine const& engine, CheckOptions const& o) {
  auto const needed = static_cast<std::size_t>(o.tokens + o.steps);
  std::vector<int> tokens = engine.tokenizer().encode(
      o.text.empty() ? filler_prose(static_cast<int>(needed / 16) + 1) : read_text_file(o.text));
  if (tokens.size() < needed) {
    throw UserError("the text '" + o.text + "' has " + std::to_string(tokens.size()) +
                    " tokens, but " + std::to_string(needed) + " are needed");
  }
  tokens.resize(needed);
  return tokens;
}

/// The text through one of our caches, its end token by token, against ggml's attention.
Distance compare_with_ggml(Engine& engine, Preset const& preset, CheckOptions const& o) {
  std::vector<int> const tokens = read_tokens(engine, o);
  int const places = o.steps + 1;
  std::vector<float> const expected =
      logits_with_ggml_attention(engine.model(), o.common.threads, tokens, places);
  auto const width = static_cast<std::size_t>(engine.shape().vocabulary);
  Run run = engine.make_run(preset);
  run.prefill(std::span(tokens).first(static_cast<std::size_t>(o.tokens)));
  Distance result;
  for (std::size_t i = 0; i < static_cast<std::size_t>(places); ++i) {
    std::span<float const> const ours = run.logits();
    std::span<float const> const theirs = std::span(expected).subspan(i * width, width);
    for (std::size_t j = 0; j < width; ++j) {
      double const difference = std::fabs(static_cast<double>(ours[j] - theirs[j]));
      result.largest_difference = std::max(result.largest_difference, difference);
    }
    result.kl_mean += compare_logits(theirs, ours, 0).kl;
    ++result.places;
    if (i < static_cast<std::size_t>(o.steps)) {
      run.step(tokens[static_cast<std::size_t>(o.tokens) + i]);
    }
  }
  result.kl_mean /= static_cast<double>(result.places);
  return result;
}

/// What became of a preset's rows while it decoded, and how its logits were after a Full Reset.
struct ResetResult {
  std::uint64_t absent_rows = 0;  ///< frozen or asleep before the reset
  std::size_t differing = 0;      ///< logits that are not the plain cache's, bit for bit
};

/// Decodes until rows are frozen, forgets those tokens (their rows are not the plain cache's),
/// thaws everything and decodes one token.
ResetResult compare_after_reset(Engine& engine, Preset const& preset, CheckOptions const& o) {
  std::vector<int> const tokens = read_tokens(engine, o);
  Run plain = engine.make_plain_run();
  Run run = engine.make_run(preset);
  for (Run* const each : {&plain, &run}) {
    each->prefill(std::span(tokens).first(static_cast<std::size_t>(o.tokens)));
  }
  for (int i = 0; i < o.steps; ++i) {
    run.step_forced(tokens[static_cast<std::size_t>(o.tokens + i)]);
  }
  kvfreeze::RowCounts const rows = run.steps().back().report.rows;
  run.truncate(o.tokens);
  run.cache().thaw();
  int const next = tokens[static_cast<std::size_t>(o.tokens)];
  plain.step(next);
  run.step(next);
  ResetResult result{.absent_rows = rows.frozen + rows.asleep};
  for (std::size_t i = 0; i < plain.logits().size(); ++i) {
    result.differing += plain.logits()[i] != run.logits()[i] ? 1U : 0U;
  }
  return result;
}

}  // namespace

bool check(CheckOptions const& options) {
  CheckOptions o = options;
  o.common.context = o.tokens + o.steps;
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  Json json;
  std::vector<Finding> findings;
  {
    o.common.weights = WeightType::f32;
    Engine engine(o.common);
    Preset const plain_float{"Plain, 32-bit rows", true, true, "", &make_plain_float};
    Distance const distance = compare_with_ggml(engine, plain_float, o);
    findings.push_back({"32-bit weights and rows: largest difference of a logit from ggml's",
                        format_small(distance.largest_difference),
                        "<= " + format_small(most_difference),
                        distance.largest_difference <= most_difference});
    json.put("command", "check");
    json.put("prompt_tokens", o.tokens);
    json.put("places", distance.places);
    json.put("f32_logit_difference_max", distance.largest_difference);
    json.put("f32_kl_mean", distance.kl_mean);
  }
  o.common.weights = WeightType::file;
  Engine engine(o.common);
  Distance const distance = compare_with_ggml(engine, find_preset("Plain"), o);
  findings.push_back({"the file's weights, 16-bit rows: KL from ggml's, nats",
                      format_small(distance.kl_mean), "<= " + format_small(most_kl),
                      distance.kl_mean <= most_kl});
  json.put("file_logit_difference_max", distance.largest_difference);
  json.put("file_kl_mean", distance.kl_mean);
  for (Preset const& preset : presets()) {
    if (!preset.lossless || preset.name == "Plain") {
      continue;
    }
    ResetResult const result = compare_after_reset(engine, preset, o);
    std::string const name(preset.name);
    findings.push_back({name + " after a Full Reset of " + format_count(result.absent_rows) +
                            " rows: logits that differ from the plain cache's",
                        std::to_string(result.differing), "0", result.differing == 0});
    json.put(snake_case(name) + "_reset_rows", result.absent_rows);
    json.put(snake_case(name) + "_reset_differing_logits", result.differing);
  }

  bool good = true;
  std::vector<std::vector<std::string>> table{{"", "found", "wanted", ""}};
  for (Finding const& f : findings) {
    table.push_back({f.what, f.value, f.target, f.good ? "ok" : "FAILED"});
    good = good && f.good;
  }
  std::printf("%zu places after %d tokens\n\n", distance.places, o.tokens);
  print_table(table);
  json.put("good", good);
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json.text());
  }
  return good;
}

}  // namespace llama
