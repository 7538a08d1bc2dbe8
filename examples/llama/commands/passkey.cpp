#include "../haystack.hpp"
#include "../retrieval.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

namespace {

constexpr std::string_view filler =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";

/// A text of about `length` tokens with the key at `depth` percent of it.
std::vector<int> make_prompt(Tokenizer const& tokenizer, int length, int depth,
                             std::string const& key) {
  auto const count = [&](std::string_view text) {
    return static_cast<int>(tokenizer.encode(text).size());
  };
  int const fixed = count(passkey_heading) + count(passkey_needle(key)) + count(passkey_question);
  int const each = count(std::string(filler) + std::string(filler)) - count(filler);
  int const fillers = std::max((length - fixed) / each, 1);
  std::string text(passkey_heading);
  for (int i = 0; i <= fillers; ++i) {
    if (i == (fillers * depth + 50) / 100) {
      text += passkey_needle(key);
    }
    if (i < fillers) {
      text += filler;
    }
  }
  text += passkey_question;
  return tokenizer.encode(text);
}

/// The questions about one text: `keys` for each depth. The deepest come first, so that the next
/// have as much as can be in common with what was read.
std::vector<Trial> make_trials(Engine const& engine, PasskeyOptions const& o,
                               std::vector<int> const& depths, int length) {
  std::mt19937 random(static_cast<std::mt19937::result_type>(o.seed));
  std::vector<Trial> trials;
  for (int const depth : depths) {
    for (int i = 0; i < o.keys; ++i) {
      std::string const key = random_passkey(random);
      trials.push_back(
          {make_prompt(engine.tokenizer(), length, depth, key), {key}, passkey_answer_tokens});
    }
  }
  return trials;
}

/// The cache's right answers at each depth, then the figures that all retrieval tables have.
std::vector<std::string> table_row(TrialResults const& results, TrialResults const& plain,
                                   int keys) {
  std::vector<std::string> row{results.label};
  auto const each = static_cast<std::size_t>(keys);
  for (std::size_t at = results.right.size(); at > 0; at -= each) {
    auto const end = results.right.begin() + static_cast<std::ptrdiff_t>(at);
    row.push_back(std::to_string(std::count(end - keys, end, 1)) + "/" + std::to_string(keys));
  }
  for (std::string const& column :
       result_columns(results, plain, static_cast<int>(results.right.size()))) {
    row.push_back(column);
  }
  return row;
}

}  // namespace

void passkey(PasskeyOptions const& options) {
  PasskeyOptions o = options;
  std::vector<Choice> const choices = retrieval_choices(o.common.preset);
  std::vector<int> depths = parse_list(o.depths, "--depths", 0, 100);
  std::sort(depths.rbegin(), depths.rend());
  std::vector<int> const lengths = parse_list(o.lengths, "--length", 128, 1 << 24);
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  int const longest = *std::max_element(lengths.begin(), lengths.end());
  bool const sized = o.common.context == 0;  // each cache for its own text
  if (sized) {
    o.common.context = longest + 2 * passkey_answer_tokens;
  }
  if (longest + passkey_answer_tokens > o.common.context) {
    throw UserError("--length " + std::to_string(longest) + " and " +
                    std::to_string(passkey_answer_tokens) +
                    " tokens of answer do not fit --context " + std::to_string(o.common.context));
  }
  Engine engine(o.common);
  std::vector<Examination> exams;
  for (int const length : lengths) {
    exams.push_back(examine(engine, length, make_trials(engine, o, depths, length), choices,
                            sized ? 0 : o.common.context));
  }
  std::size_t const per_cache = depths.size() * static_cast<std::size_t>(o.keys);
  double const all = static_cast<double>(per_cache * choices.size()) *
                     static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), 0));
  double done = 0.0;
  std::vector<Json> objects;
  Progress progress("passkey");
  for (Examination const& exam : exams) {
    std::vector<TrialResults> const results = answer_examination(engine, exam, [&] {
      done += exam.length;
      progress.show(done / all);
    });
    progress.finish();
    std::vector<std::vector<std::string>> table{{"key at"}};
    for (auto depth = depths.rbegin(); depth != depths.rend(); ++depth) {
      table[0].push_back(std::to_string(*depth) + " %");
    }
    for (std::string const& head : result_heads()) {
      table[0].push_back(head);
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      table.push_back(table_row(results[i], results[0], o.keys));
      Json json;
      json.put("command", "passkey");
      engine.put_settings(json, exam.choices[i]);
      json.put("prompt_tokens", exam.prompt_tokens);
      json.put("generated_tokens", passkey_answer_tokens);
      json.put("keys_per_depth", o.keys);
      json.put("depths_percent", depths);
      put_results(json, results[i], results[0], static_cast<int>(exam.trials.size()));
      objects.push_back(json);
    }
    std::printf("keys found in texts of %d tokens\n\n", exam.prompt_tokens);
    print_table(table);
    std::printf("\n");
  }
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json_text(objects));
  }
}

}  // namespace llama
