#include "../engine.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

namespace {

constexpr int answer_tokens = 8;  // a five-digit key is five tokens and a space
constexpr std::string_view heading =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there.\n";
constexpr std::string_view filler =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
constexpr std::string_view question = "\nWhat is the pass key? The pass key is";

std::string needle(std::string const& key) {
  return "\nThe pass key is " + key + ". Remember it. " + key + " is the pass key.\n ";
}

/// A text of about `length` tokens with the key at `depth` percent of it.
std::vector<int> make_prompt(Tokenizer const& tokenizer, int length, int depth,
                             std::string const& key) {
  auto const count = [&](std::string_view text) {
    return static_cast<int>(tokenizer.encode(text).size());
  };
  int const fixed = count(heading) + count(needle(key)) + count(question);
  int const each = count(std::string(filler) + std::string(filler)) - count(filler);
  int const fillers = std::max((length - fixed) / each, 1);
  std::string text(heading);
  for (int i = 0; i <= fillers; ++i) {
    if (i == (fillers * depth + 50) / 100) {
      text += needle(key);
    }
    if (i < fillers) {
      text += filler;
    }
  }
  text += question;
  return tokenizer.encode(text);
}

/// What the model says after the prompt, greedily.
std::string answer(Tokenizer const& tokenizer, Run& run, std::vector<int> const& prompt) {
  run.restart();
  run.prefill(prompt);
  std::string text;
  for (int i = 0; i < answer_tokens; ++i) {
    std::span<float const> const logits = run.logits();
    auto const top = std::max_element(logits.begin(), logits.end()) - logits.begin();
    text += tokenizer.decode(static_cast<int>(top));
    run.step_forced(static_cast<int>(top));
  }
  return text;
}

bool contains(std::string const& text, std::string const& key) {
  return text.find(key) != std::string::npos;
}

}  // namespace

void passkey(PasskeyOptions const& options) {
  PasskeyOptions o = options;
  Preset const& preset = find_preset(o.common.preset);
  std::vector<int> const depths = parse_list(o.depths, "--depths", 0, 100);
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  if (o.common.context == 0) {
    o.common.context = o.length + 2 * answer_tokens;
  }
  if (o.length + answer_tokens > o.common.context) {
    throw UserError("--length " + std::to_string(o.length) + " and " +
                    std::to_string(answer_tokens) + " tokens of answer do not fit --context " +
                    std::to_string(o.common.context));
  }
  Engine engine(o.common);
  Run plain = engine.make_plain_run();
  Run run = engine.make_run(preset);

  std::mt19937 random(static_cast<std::mt19937::result_type>(o.seed));
  std::size_t const trials = depths.size() * static_cast<std::size_t>(o.keys);
  std::size_t done = 0;
  std::size_t prompt_tokens = 0;
  int found_plain = 0;
  int found = 0;
  std::vector<int> found_plain_by_depth;
  std::vector<int> found_by_depth;
  std::vector<std::vector<std::string>> table{{"depth", "plain", std::string(preset.name)}};
  Progress progress("passkey");
  for (int const depth : depths) {
    int plain_hits = 0;
    int hits = 0;
    for (int i = 0; i < o.keys; ++i) {
      std::string const key = std::to_string(10000 + random() % 90000);
      std::vector<int> const prompt = make_prompt(engine.tokenizer(), o.length, depth, key);
      prompt_tokens = std::max(prompt_tokens, prompt.size());
      plain_hits += contains(answer(engine.tokenizer(), plain, prompt), key) ? 1 : 0;
      hits += contains(answer(engine.tokenizer(), run, prompt), key) ? 1 : 0;
      progress.show(static_cast<double>(++done) / static_cast<double>(trials));
    }
    std::string const of = "/" + std::to_string(o.keys);
    table.push_back(
        {std::to_string(depth) + " %", std::to_string(plain_hits) + of, std::to_string(hits) + of});
    found_plain_by_depth.push_back(plain_hits);
    found_by_depth.push_back(hits);
    found_plain += plain_hits;
    found += hits;
  }
  progress.finish();

  RunSummary const summary = summarise(run.steps());
  RunSummary const plain_summary = summarise(plain.steps());
  auto const share = [&](int hits) {
    return static_cast<double>(hits) / static_cast<double>(trials);
  };
  table.push_back({"all", format_percent(share(found_plain)), format_percent(share(found))});
  table.push_back({"resident", format_percent(plain_summary.resident_fraction_mean),
                   format_percent(summary.resident_fraction_mean)});
  table.push_back({"exact rows", "100.0 %", format_percent(summary.exact_fraction_mean)});
  table.push_back({"prefill tok/s", format_number(plain_summary.prefill_tokens_per_second, 1),
                   format_number(summary.prefill_tokens_per_second, 1)});
  std::printf("keys found in texts of %zu tokens\n\n", prompt_tokens);
  print_table(table);
  if (!o.common.json.empty()) {
    Json json;
    json.put("command", "passkey");
    engine.put_settings(json, preset);
    json.put("prompt_tokens", prompt_tokens);
    json.put("generated_tokens", answer_tokens);
    json.put("keys_per_depth", o.keys);
    json.put("depths_percent", depths);
    json.put("found_plain_by_depth", found_plain_by_depth);
    json.put("found_by_depth", found_by_depth);
    json.put("accuracy_plain", share(found_plain));
    json.put("accuracy", share(found));
    put_figures(json, summary);
    json.put("plain_prefill_tokens_per_second", plain_summary.prefill_tokens_per_second);
    json.put("plain_decode_tokens_per_second", plain_summary.decode_tokens_per_second);
    write_text_file(o.common.json, json.text());
  }
}

}  // namespace llama
