#include "subjects.hpp"

#include "../haystack.hpp"
#include "../prose.hpp"
#include "../user_error.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <utility>

namespace llama::lab {

namespace {

// Room between what a text was counted to have and what it has when its parts are put together.
constexpr int slack = 16;

std::string without_blanks_at_end(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text;
}

/// One text of one length, and where its subjects go.
class Maker {
 public:
  Maker(SubjectPlan const& plan, Tokenizer const& tokenizer, int context, std::size_t text,
        std::vector<Subject>& out)
      : plan_(plan),
        tokenizer_(tokenizer),
        context_(context),
        text_(text),
        hash_(hash_text(plan.texts[text].content)),
        out_(out) {
    std::string const& content = plan.texts[text].content;
    if (plan.offset >= content.size()) {
      throw UserError("--offset " + std::to_string(plan.offset) + " is past the end of '" +
                      plan.texts[text].name + "' (" + std::to_string(content.size()) + " bytes)");
    }
  }

  void make(std::string const& task) {
    try {
      if (task == "kl") {
        make_kl(task, "");
      } else if (task == "passkey") {
        make_passkey();
      } else if (task == "needles") {
        make_needles();
      } else if (task == "tracking") {
        make_tracking();
      } else if (task == "copy") {
        make_copy();
      } else {
        make_stress();
      }
    } catch (UserError const& error) {
      throw UserError(task + " with " + std::to_string(context_) + " tokens of '" +
                      plan_.texts[text_].name + "': " + error.what());
    }
  }

 private:
  [[nodiscard]] std::string_view content() const {
    return std::string_view(plan_.texts[text_].content).substr(plan_.offset);
  }

  [[nodiscard]] int count(std::string_view text) const {
    return static_cast<int>(tokenizer_.encode(text).size());
  }

  [[nodiscard]] std::mt19937 random(int trial) const {
    return std::mt19937(static_cast<std::mt19937::result_type>(plan_.seed * 1000003U +
                                                               static_cast<std::uint64_t>(trial)));
  }

  [[nodiscard]] SubjectName name(std::string task, std::string variant, int piece,
                                 std::string parameters = {}) const {
    return {std::move(task), std::move(variant), context_, plan_.texts[text_].name,
            hash_,           plan_.offset,       piece,    std::move(parameters)};
  }

  [[nodiscard]] std::string seed_text() const { return "seed=" + std::to_string(plan_.seed); }

  /// Sentences of no more than so many tokens in sum, the text's next ones.
  std::vector<std::string> take(Sentences& sentences, int tokens) const {
    if (tokens < 1) {
      throw UserError("a context of " + std::to_string(context_) +
                      " tokens leaves no room for a text");
    }
    std::vector<std::string> taken = sentences.take(tokens);
    int have = 0;
    std::size_t fit = 0;
    while (fit < taken.size() && (have += count(taken[fit])) <= tokens) {
      ++fit;
    }
    taken.resize(fit);
    return taken;
  }

  void add(Subject subject) const {
    int longest = static_cast<int>(subject.continuation.size());
    for (Question const& question : subject.questions) {
      longest =
          std::max(longest, static_cast<int>(question.tokens.size()) + question.answer_tokens);
    }
    int const all = static_cast<int>(subject.prompt.size()) + longest;
    if (all > context_) {
      throw UserError("a text of " + std::to_string(all) + " tokens does not fit a context of " +
                      std::to_string(context_));
    }
    out_.push_back(std::move(subject));
  }

  [[nodiscard]] Question question(std::string const& text, std::vector<std::string> wanted,
                                  int answer_tokens) const {
    return {tokenizer_.encode(text), std::move(wanted), answer_tokens};
  }

  /// The first half is the prompt.
  void add_halves(SubjectName subject, std::vector<int> const& tokens) const {
    auto const middle = tokens.begin() + static_cast<std::ptrdiff_t>(tokens.size() / 2);
    add({std::move(subject), {tokens.begin(), middle}, {middle, tokens.end()}, {}, {}});
  }

  void make_kl(std::string const& task, std::string const& variant) const {
    auto const pieces = cut_pieces(tokenizer_, plan_.texts[text_].content, plan_.texts[text_].name,
                                   plan_.offset, context_, plan_.pieces);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      add_halves(name(task, variant, static_cast<int>(i)), pieces[i]);
    }
  }

  /// The same prose with the same key at each depth.
  void make_passkey() const {
    Sentences sentences(tokenizer_, content());
    for (int trial = 0; trial < plan_.trials; ++trial) {
      std::mt19937 generator = random(trial);
      std::string const key = random_passkey(generator);
      std::string const needle = passkey_needle(key);
      int const fixed = count(passkey_heading) + count(needle) + count(passkey_question);
      auto const prose = take(sentences, context_ - fixed - passkey_answer_tokens - slack);
      for (int const depth : plan_.depths) {
        std::string const text =
            std::string(passkey_heading) + hide_sentences(prose, {{depth, needle}});
        add({name("passkey", "depth=" + std::to_string(depth), trial, seed_text()),
             tokenizer_.encode(without_blanks_at_end(text)),
             {},
             {},
             {question(std::string(passkey_question), {key}, passkey_answer_tokens)}});
      }
    }
  }

  void make_needles() const {
    constexpr int longest_sentence = 256;  // tokens by which the text may be longer than asked for
    Sentences sentences(tokenizer_, content());
    std::string depths;
    for (int const depth : plan_.needle_depths) {
      depths += (depths.empty() ? "depths=" : "-") + std::to_string(depth);
    }
    for (int trial = 0; trial < plan_.trials; ++trial) {
      std::mt19937 generator = random(trial);
      NeedleText const text = make_needle_text(
          tokenizer_, sentences, context_ - needle_answer_tokens - longest_sentence - slack,
          plan_.needle_depths, generator);
      Subject subject{name("needles", depths, trial, seed_text()),
                      tokenizer_.encode(without_blanks_at_end(text.text)),
                      {},
                      {},
                      {}};
      for (std::size_t i = 0; i < text.names.size(); ++i) {
        subject.questions.push_back(
            question(needle_question(text.names[i]), {text.numbers[i]}, needle_answer_tokens));
      }
      add(std::move(subject));
    }
  }

  /// RULER's variable tracking with one chain (arXiv 2404.06654), an example before the text.
  void make_tracking() const {
    static constexpr std::string_view heading =
        "Memorize and track the chain of variable assignments hidden in the following text.\n"
        "Example: VAR QRS = 10203. VAR TUV = VAR QRS. Question: Find all variables that are "
        "assigned the value 10203 in the text above. Answer: 2 variables are assigned the value "
        "10203, they are: QRS, TUV.\n\n";
    constexpr int name_tokens = 6;  // of a variable's name and what is around it
    for (int const hops : plan_.hops) {
      Sentences sentences(tokenizer_, content());
      for (int trial = 0; trial < plan_.trials; ++trial) {
        std::mt19937 generator = random(trial);
        std::vector<std::string> const names = variable_names(hops + 1, generator);
        std::string const value = random_passkey(generator);
        std::vector<HiddenSentence> hidden;
        int fixed = count(heading);
        for (int i = 0; i <= hops; ++i) {
          auto const at = static_cast<std::size_t>(i);
          std::string const assigned = i == 0 ? value : "VAR " + names[at - 1];
          hidden.push_back(
              {(2 * i + 1) * 100 / (2 * (hops + 1)), "VAR " + names[at] + " = " + assigned + ". "});
          fixed += count(hidden.back().text);
        }
        std::string const asked =
            "\n\nQuestion: Find all variables that are assigned the value " + value +
            " in the text above. Answer: " + std::to_string(hops + 1) +
            (hops == 0 ? " variable is" : " variables are") + " assigned the value " + value +
            (hops == 0 ? ", it is:" : ", they are:");
        int const answer = name_tokens * (hops + 1) + 2;
        auto const prose = take(sentences, context_ - fixed - count(asked) - answer - slack);
        add({name("tracking", "hops=" + std::to_string(hops), trial, seed_text()),
             tokenizer_.encode(
                 without_blanks_at_end(std::string(heading) + hide_sentences(prose, hidden))),
             {},
             {},
             {question(asked, names, answer)}});
      }
    }
  }

  static std::vector<std::string> variable_names(int count, std::mt19937& generator) {
    std::vector<std::string> names;
    while (static_cast<int>(names.size()) < count) {
      std::string variable;
      for (int i = 0; i < 3; ++i) {
        variable += static_cast<char>('A' + generator() % 26);
      }
      // No word of the question, and none that the example has.
      bool const taken = variable == "VAR" || variable == "QRS" || variable == "TUV" ||
                         std::find(names.begin(), names.end(), variable) != names.end();
      if (!taken) {
        names.push_back(variable);
      }
    }
    return names;
  }

  /// A passage at the beginning, prose, and the passage again.
  void make_copy() const {
    static constexpr std::string_view first = "Passage A:";
    static constexpr std::string_view again = "\n\nHere is passage A once more, word for word:";
    Sentences sentences(tokenizer_, content());
    for (int trial = 0; trial < plan_.trials; ++trial) {
      std::string const passage =
          " " +
          without_blanks_at_end(filler_prose(
              plan_.copy_sentences, plan_.seed * 1000003U + static_cast<std::uint64_t>(trial)));
      std::vector<int> const tokens = tokenizer_.encode(passage);
      std::vector<int> const cue = tokenizer_.encode(again);
      int const fixed = count(first) + 2 * static_cast<int>(tokens.size() + cue.size());
      std::string text = std::string(first) + passage + "\n\n";
      for (std::string const& sentence : take(sentences, context_ - fixed - slack)) {
        text += sentence;
      }
      Subject subject{
          name("copy", "sentences=" + std::to_string(plan_.copy_sentences), trial, seed_text()),
          tokenizer_.encode(without_blanks_at_end(text)),
          cue,
          {},
          {}};
      append_recalled(subject, tokens, false);
      add(std::move(subject));
    }
  }

  /// Adds tokens to the continuation that the prompt determines: all, or those with a digit.
  void append_recalled(Subject& subject, std::vector<int> const& tokens, bool digits) const {
    for (int const token : tokens) {
      std::string const& text = tokenizer_.decode(token);
      if (!digits || text.find_first_of("0123456789") != std::string::npos) {
        subject.recalled.push_back(static_cast<int>(subject.continuation.size()));
      }
      subject.continuation.push_back(token);
    }
  }

  static void append(std::vector<int>& tokens, std::vector<int> const& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  }

  void make_stress() const {
    make_kl("stress", "kind=calm");
    make_switching();
    make_late_questions();
    if (text_ == 0) {  // it is made up: once for each context
      make_code();
    }
  }

  /// Two texts take turns: what a head found unimportant in one is wanted again in the other.
  void make_switching() const {
    std::size_t const other = (text_ + 1) % plan_.texts.size();
    TextFile const& second = plan_.texts[other];
    bool const alone = other == text_;
    std::size_t const from =
        alone ? plan_.offset + (second.content.size() - plan_.offset) / 2 : plan_.offset;
    int const block = std::max(64, context_ / 16);
    int const length = (context_ + 1) / 2;
    auto const a = cut_pieces(tokenizer_, plan_.texts[text_].content, plan_.texts[text_].name,
                              plan_.offset, length, plan_.pieces);
    auto const b = cut_pieces(tokenizer_, second.content, second.name, from, length, plan_.pieces);
    std::string const with = "with=" + second.name + "#" + hash_text(second.content) + "@" +
                             std::to_string(from) + ",block=" + std::to_string(block);
    for (std::size_t piece = 0; piece < a.size(); ++piece) {
      std::vector<int> tokens;
      for (int at = 0; at < length; at += block) {
        for (auto const& source : {a[piece], b[piece]}) {
          auto const begin = source.begin() + at;
          tokens.insert(tokens.end(), begin, begin + std::min(block, length - at));
        }
      }
      tokens.resize(static_cast<std::size_t>(context_));
      add_halves(name("stress", "kind=switch", static_cast<int>(piece), with), tokens);
    }
  }

  /// Facts early in the prompt, wanted word for word now and then in the second half.
  void make_late_questions() const {
    constexpr int longest_sentence = 256;
    static std::vector<int> const depths{5, 20, 35, 50};  // percent of the prompt
    Sentences sentences(tokenizer_, content());
    for (int piece = 0; piece < plan_.pieces; ++piece) {
      std::mt19937 generator = random(piece);
      NeedleText const facts = make_needle_text(
          tokenizer_, sentences, std::max(context_ / 2 - longest_sentence, 1), depths, generator);
      Subject subject{name("stress", "kind=late", piece, seed_text()),
                      tokenizer_.encode(without_blanks_at_end(facts.text)),
                      {},
                      {},
                      {}};
      // The same sentence as in the prompt, but for the blank at its end.
      auto const told = [&](std::size_t i) {
        return " The special magic number for " + facts.names[i] + " is";
      };
      int facts_tokens = 0;
      for (std::size_t i = 0; i < facts.names.size(); ++i) {
        facts_tokens += count(told(i)) + count(" " + facts.numbers[i] + ".") + 1;
      }
      int const left = context_ - static_cast<int>(subject.prompt.size()) - facts_tokens - slack;
      for (std::size_t i = 0; i < facts.names.size(); ++i) {
        std::string prose = " ";
        for (std::string const& sentence :
             take(sentences, left / static_cast<int>(facts.names.size()))) {
          prose += sentence;
        }
        append(subject.continuation, tokenizer_.encode(without_blanks_at_end(prose) + told(i)));
        append_recalled(subject, tokenizer_.encode(" " + facts.numbers[i]), true);
        append(subject.continuation, tokenizer_.encode("."));
      }
      add(std::move(subject));
    }
  }

  /// Constants defined at the beginning of a source file and checked far below.
  void make_code() const {
    for (int piece = 0; piece < plan_.pieces; ++piece) {
      std::mt19937 generator = random(piece);
      std::vector<Needle> constants = random_needles(6, generator);
      std::string text = "// Settings of the service. Everything below depends on them.\n";
      for (Needle& constant : constants) {
        std::transform(constant.city.begin(), constant.city.end(), constant.city.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
        constant.number.resize(5);
        text += "constexpr int port_" + constant.city + " = " + constant.number + ";\n";
      }
      std::vector<int> prompt = tokenizer_.encode(text);
      int number = 0;
      auto const grow = [&](std::vector<int>& tokens, int until) {
        while (static_cast<int>(tokens.size()) < until) {
          append(tokens, tokenizer_.encode(code_function(number++, generator)));
        }
        tokens.resize(static_cast<std::size_t>(std::max(until, 0)));
      };
      grow(prompt, std::max(context_ / 2, static_cast<int>(prompt.size())));
      Subject subject{name("stress", "kind=code", piece, seed_text()), prompt, {}, {}, {}};
      subject.name.text = "generated";
      subject.name.text_hash = "-";
      subject.name.offset = 0;
      auto const check = [&](Needle const& constant) {
        return "\nstatic_assert(port_" + constant.city + " ==";
      };
      int checks = 0;
      for (Needle const& constant : constants) {
        checks += count(check(constant)) + count(" " + constant.number) + count(");\n");
      }
      int const part = (context_ - static_cast<int>(prompt.size()) - checks - slack) /
                       static_cast<int>(constants.size());
      for (Needle const& constant : constants) {
        std::vector<int> code;
        grow(code, part);
        append(subject.continuation, code);
        append(subject.continuation, tokenizer_.encode(check(constant)));
        append_recalled(subject, tokenizer_.encode(" " + constant.number), true);
        append(subject.continuation, tokenizer_.encode(");\n"));
      }
      add(std::move(subject));
    }
  }

  static std::string code_function(int number, std::mt19937& generator) {
    static constexpr std::array verbs{"read", "merge", "count", "sort", "check", "send", "load"};
    static constexpr std::array nouns{"frame", "record", "queue",  "header",
                                      "block", "index",  "signal", "buffer"};
    static constexpr std::array steps{
        "  for (auto const& item : items) {\n    total += item.size();\n  }\n",
        "  if (items.empty()) {\n    return 0;\n  }\n",
        "  while (!done(total)) {\n    total = next(total, items);\n  }\n",
        "  auto const last = items.back();\n  total += weight(last);\n",
        "  std::sort(items.begin(), items.end(), by_time);\n"};
    auto const pick = [&](auto const& choices) {
      return std::string(choices[generator() % choices.size()]);
    };
    std::string text = "\nint " + pick(verbs) + "_" + pick(nouns) + "_" + std::to_string(number) +
                       "(List& items) {\n  int total = " + std::to_string(generator() % 100) +
                       ";\n";
    for (int i = 0; i < 3; ++i) {
      text += pick(steps);
    }
    return text + "  return total;\n}\n";
  }

  SubjectPlan const& plan_;
  Tokenizer const& tokenizer_;
  int context_;
  std::size_t text_;
  std::string hash_;
  std::vector<Subject>& out_;
};

}  // namespace

std::vector<Subject> make_subjects(SubjectPlan const& plan, Tokenizer const& tokenizer) {
  std::vector<Subject> subjects;
  for (int const context : plan.contexts) {
    for (std::size_t text = 0; text < plan.texts.size(); ++text) {
      Maker maker(plan, tokenizer, context, text, subjects);
      for (std::string const& task : plan.tasks) {
        maker.make(task);
      }
    }
  }
  return subjects;
}

}  // namespace llama::lab
