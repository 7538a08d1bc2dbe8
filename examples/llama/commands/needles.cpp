#include "../haystack.hpp"
#include "../prose.hpp"
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

/// The questions about all texts of one length: each needle of a text, then all at once.
std::vector<Trial> make_trials(Tokenizer const& tokenizer, NeedlesOptions const& o,
                               std::vector<NeedleText> const& texts) {
  std::vector<Trial> trials;
  for (NeedleText const& text : texts) {
    if (o.ask != "all") {
      for (std::size_t i = 0; i < text.names.size(); ++i) {
        trials.push_back({tokenizer.encode(text.text + needle_question(text.names[i])),
                          {text.numbers[i]},
                          needle_answer_tokens});
      }
    }
    if (o.ask != "each") {
      trials.push_back({tokenizer.encode(text.text + needle_question_for_all(text.names)),
                        text.numbers,
                        needle_answer_tokens_all * static_cast<int>(text.names.size())});
    }
  }
  return trials;
}

int count_wanted(std::vector<Trial> const& trials) {
  return std::accumulate(trials.begin(), trials.end(), 0, [](int sum, Trial const& trial) {
    return sum + static_cast<int>(trial.wanted.size());
  });
}

/// Questions of one kind over all texts: the kinds take turns in the list of trials.
std::string right_of(std::vector<Trial> const& trials, TrialResults const& results,
                     std::size_t kind, std::size_t kinds) {
  int right = 0;
  std::size_t wanted = 0;
  for (std::size_t i = kind; i < trials.size(); i += kinds) {
    right += results.right[i];
    wanted += trials[i].wanted.size();
  }
  return std::to_string(right) + "/" + std::to_string(wanted);
}

}  // namespace

void needles(NeedlesOptions const& options) {
  NeedlesOptions o = options;
  std::vector<Choice> const choices = retrieval_choices(o.common.preset);
  std::vector<int> const depths = parse_list(o.depths, "--depths", 0, 100);
  std::vector<int> const lengths = parse_list(o.lengths, "--lengths", 256, 1 << 24);
  if (depths.size() > most_needles) {
    throw UserError("--depths: there are names for " + std::to_string(most_needles) +
                    " needles only");
  }
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  // Sentences end where they end, and the question for all of them is longer.
  int const slack = 256 + needle_answer_tokens_all * static_cast<int>(depths.size());
  int const longest = *std::max_element(lengths.begin(), lengths.end());
  bool const sized = o.common.context == 0;  // each cache for its own text
  if (sized) {
    o.common.context = longest + slack;
  }
  if (longest + slack > o.common.context) {
    throw UserError("--lengths: " + std::to_string(longest) + " and " + std::to_string(slack) +
                    " tokens of question and answer do not fit --context " +
                    std::to_string(o.common.context));
  }
  Engine engine(o.common);
  std::string const text =
      o.text.empty() ? filler_prose(o.trials * longest / 8) : read_text_file(o.text);
  if (o.offset >= text.size()) {
    throw UserError("--offset " + std::to_string(o.offset) + " is past the end of the text");
  }

  std::vector<Examination> exams;
  for (int const length : lengths) {
    Sentences sentences(engine.tokenizer(), std::string_view(text).substr(o.offset));
    std::mt19937 random(static_cast<std::mt19937::result_type>(o.seed));
    std::vector<NeedleText> texts;
    for (int i = 0; i < o.trials; ++i) {
      texts.push_back(make_needle_text(engine.tokenizer(), sentences, length, depths, random));
    }
    exams.push_back(examine(engine, length, make_trials(engine.tokenizer(), o, texts), choices,
                            sized ? 0 : o.common.context));
  }

  std::size_t const kinds = (o.ask == "all" ? 0 : depths.size()) + (o.ask == "each" ? 0U : 1U);
  double const all = static_cast<double>(kinds * choices.size()) * o.trials *
                     std::accumulate(lengths.begin(), lengths.end(), 0.0);
  double done = 0.0;
  std::vector<Json> objects;
  Progress progress("needles");
  for (Examination const& exam : exams) {
    std::vector<TrialResults> const results = answer_examination(engine, exam, [&] {
      done += exam.length;
      progress.show(done / all);
    });
    progress.finish();

    std::vector<std::vector<std::string>> table{{"needle at"}};
    if (o.ask != "all") {
      for (int const depth : depths) {
        table[0].push_back(std::to_string(depth) + " %");
      }
    }
    if (o.ask != "each") {
      table[0].emplace_back("all at once");
    }
    for (std::string const& head : result_heads()) {
      table[0].push_back(head);
    }
    int const wanted = count_wanted(exam.trials);
    for (std::size_t i = 0; i < results.size(); ++i) {
      std::vector<std::string> row{results[i].label};
      for (std::size_t kind = 0; kind < kinds; ++kind) {
        row.push_back(right_of(exam.trials, results[i], kind, kinds));
      }
      for (std::string const& column : result_columns(results[i], results[0], wanted)) {
        row.push_back(column);
      }
      table.push_back(row);
      Json json;
      json.put("command", "needles");
      engine.put_settings(json, exam.choices[i]);
      json.put("text", o.text);
      json.put("offset_bytes", o.offset);
      json.put("length", exam.length);
      json.put("prompt_tokens", exam.prompt_tokens);
      json.put("trials", o.trials);
      json.put("depths_percent", depths);
      json.put("ask", o.ask);
      put_results(json, results[i], results[0], wanted);
      objects.push_back(json);
    }
    std::printf("%zu needles in prose of %d tokens\n\n", depths.size(), exam.prompt_tokens);
    print_table(table);
    std::printf("\n");
  }
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json_text(objects));
  }
}

}  // namespace llama
