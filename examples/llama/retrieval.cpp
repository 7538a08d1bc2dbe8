#include "retrieval.hpp"

#include "text.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace llama {

namespace {

int total(std::vector<int> const& right) { return std::accumulate(right.begin(), right.end(), 0); }

}  // namespace

std::string say(Tokenizer const& tokenizer, Run& run, int tokens) {
  std::string text;
  for (int i = 0; i < tokens; ++i) {
    std::span<float const> const logits = run.logits();
    auto const top = std::max_element(logits.begin(), logits.end()) - logits.begin();
    text += tokenizer.decode(static_cast<int>(top));
    run.step_forced(static_cast<int>(top));
  }
  return text;
}

int count_said(std::string_view answer, std::span<std::string const> wanted) {
  return static_cast<int>(std::count_if(wanted.begin(), wanted.end(), [&](std::string const& each) {
    return answer.find(each) != std::string_view::npos;
  }));
}

std::vector<Choice> retrieval_choices(std::string_view presets) {
  std::vector<Choice> choices{find_preset("Plain")};
  for (Choice const& choice : find_choices(presets)) {
    if (choice.preset != choices.front().preset) {
      choices.push_back(choice);
    }
  }
  return choices;
}

Examination examine(Engine& engine, int length, std::vector<Trial> trials,
                    std::vector<Choice> choices, int context) {
  Examination result{length, 0, std::move(trials), std::move(choices)};
  int needed = 0;
  for (Trial const& trial : result.trials) {
    auto const tokens = static_cast<int>(trial.prompt.size());
    result.prompt_tokens = std::max(result.prompt_tokens, tokens);
    needed = std::max(needed, tokens + trial.answer_tokens);
  }
  for (Choice& choice : result.choices) {
    choice.context = context > 0 ? context : needed;
    choice.cap_tokens = result.prompt_tokens;
    static_cast<void>(engine.make_run(choice));
  }
  return result;
}

TrialResults answer_trials(Engine& engine, Choice const& choice, std::span<Trial const> trials,
                           std::function<void()> const& done) {
  bool const is_plain = choice.preset == &find_preset("Plain");
  Run run = is_plain ? engine.make_plain_run(choice.context) : engine.make_run(choice);
  TrialResults results{.label = is_plain ? "plain" : choice.label, .right = {}, .summary = {}};
  for (Trial const& trial : trials) {
    run.read(trial.prompt, choice.preset->goes_back);
    std::string const said = say(engine.tokenizer(), run, trial.answer_tokens);
    results.right.push_back(count_said(said, trial.wanted));
    done();
  }
  results.summary = summarise(run.steps());
  return results;
}

std::vector<TrialResults> answer_examination(Engine& engine, Examination const& exam,
                                             std::function<void()> const& done) {
  std::vector<TrialResults> results;
  for (Choice const& choice : exam.choices) {
    results.push_back(answer_trials(engine, choice, exam.trials, done));
  }
  return results;
}

void put_results(Json& json, TrialResults const& results, TrialResults const& plain, int wanted) {
  auto const share = [&](TrialResults const& of) {
    return static_cast<double>(total(of.right)) / static_cast<double>(wanted);
  };
  json.put("answers_wanted", wanted);
  json.put("answers_right", total(results.right));
  json.put("answers_right_plain", total(plain.right));
  json.put("right_by_question", results.right);
  json.put("right_by_question_plain", plain.right);
  json.put("accuracy", share(results));
  json.put("accuracy_plain", share(plain));
  put_figures(json, results.summary);
  json.put("plain_prefill_tokens_per_second", plain.summary.prefill_tokens_per_second);
  json.put("plain_decode_tokens_per_second", plain.summary.decode_tokens_per_second);
}

std::vector<std::string> result_columns(TrialResults const& results, TrialResults const& plain,
                                        int wanted) {
  RunSummary const& s = results.summary;
  return {std::to_string(total(results.right)) + "/" + std::to_string(wanted),
          std::to_string(total(plain.right)) + "/" + std::to_string(wanted),
          format_percent(s.resident_fraction_mean),
          format_percent(s.resident_fraction_peak),
          format_percent(s.exact_fraction_mean),
          format_percent(s.compact_fraction_mean),
          format_number(s.prefill_tokens_per_second, 1)};
}

std::vector<std::string> result_heads() {
  return {"right", "plain", "resident", "peak", "exact", "compact", "prefill tok/s"};
}

}  // namespace llama
