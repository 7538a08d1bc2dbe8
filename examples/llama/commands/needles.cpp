#include "../prose.hpp"
#include "../retrieval.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

namespace {

constexpr int answer_tokens = 10;              // a seven-digit number is seven tokens and a space
constexpr int answer_tokens_all = 12;          // of a list, for each number
constexpr std::size_t longest_sentence = 600;  // bytes; what is longer is no prose
constexpr std::string_view heading =
    "Some facts are hidden inside a lot of irrelevant text. Find them and memorize them.\n";
constexpr std::array cities{"Paris",  "Oslo",  "Lima",   "Cairo", "Tokyo", "Dublin",
                            "Prague", "Quito", "Athens", "Delhi", "Rome",  "Madrid"};

/// One text with its needles, and what is asked about it.
struct NeedleText {
  std::string text;
  std::vector<std::string> names;
  std::vector<std::string> numbers;
};

std::string needle(std::string const& city, std::string const& number) {
  return "The special magic number for " + city + " is " + number + ". ";
}

std::string question(std::string const& city) {
  return "\nWhat is the special magic number for " + city + "? The special magic number for " +
         city + " is";
}

/// "\nWhat are ... for A, B and C? ..."
std::string question_for_all(std::vector<std::string> const& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return "\nWhat are the special magic numbers for " + list + "? The special magic numbers for " +
         list + " are";
}

/// Hands out the sentences of a text one after the other.
class Sentences {
 public:
  Sentences(Tokenizer const& tokenizer, std::string_view text)
      : tokenizer_(tokenizer), sentences_(split_sentences(text)) {
    std::erase_if(sentences_, [](std::string const& s) { return s.size() > longest_sentence; });
  }

  /// @brief The next ones, of so many tokens in sum.
  /// @throws UserError if the text has no more
  std::vector<std::string> take(int tokens) {
    std::vector<std::string> taken;
    for (int have = 0; have < tokens; ++at_) {
      if (at_ == sentences_.size()) {
        throw UserError("--text: there are too few sentences in it; --trials and --lengths need " +
                        std::to_string(tokens) + " tokens more");
      }
      have += static_cast<int>(tokenizer_.encode(sentences_[at_]).size());
      taken.push_back(sentences_[at_]);
    }
    return taken;
  }

 private:
  Tokenizer const& tokenizer_;
  std::vector<std::string> sentences_;
  std::size_t at_ = 0;
};

NeedleText make_text(Tokenizer const& tokenizer, Sentences& sentences, int length,
                     std::vector<int> const& depths, std::mt19937& random) {
  NeedleText result;
  std::vector<std::string> names(cities.begin(), cities.end());
  std::vector<HiddenSentence> hidden;
  int fixed = static_cast<int>(tokenizer.encode(heading).size());
  for (int const depth : depths) {
    std::size_t const pick = random() % names.size();
    result.names.push_back(names[pick]);
    names.erase(names.begin() + static_cast<std::ptrdiff_t>(pick));
    result.numbers.push_back(std::to_string(1000000 + random() % 9000000));
    hidden.push_back({depth, needle(result.names.back(), result.numbers.back())});
    fixed += static_cast<int>(tokenizer.encode(hidden.back().text).size());
  }
  fixed += static_cast<int>(tokenizer.encode(question(result.names.back())).size());
  result.text =
      std::string(heading) + hide_sentences(sentences.take(std::max(length - fixed, 1)), hidden);
  return result;
}

/// The questions about all texts of one length: each needle of a text, then all at once.
std::vector<Trial> make_trials(Tokenizer const& tokenizer, NeedlesOptions const& o,
                               std::vector<NeedleText> const& texts) {
  std::vector<Trial> trials;
  for (NeedleText const& text : texts) {
    if (o.ask != "all") {
      for (std::size_t i = 0; i < text.names.size(); ++i) {
        trials.push_back({tokenizer.encode(text.text + question(text.names[i])),
                          {text.numbers[i]},
                          answer_tokens});
      }
    }
    if (o.ask != "each") {
      trials.push_back({tokenizer.encode(text.text + question_for_all(text.names)), text.numbers,
                        answer_tokens_all * static_cast<int>(text.names.size())});
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
  if (depths.size() > cities.size()) {
    throw UserError("--depths: there are names for " + std::to_string(cities.size()) +
                    " needles only");
  }
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  // Sentences end where they end, and the question for all of them is longer.
  int const slack = 256 + answer_tokens_all * static_cast<int>(depths.size());
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
      texts.push_back(make_text(engine.tokenizer(), sentences, length, depths, random));
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
