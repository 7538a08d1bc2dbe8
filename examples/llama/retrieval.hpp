#pragma once

#include "engine.hpp"
#include "statistics.hpp"

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// A question at the end of a long text.
struct Trial {
  std::vector<int> prompt;
  std::vector<std::string> wanted;  ///< each of them counts if the answer has it
  int answer_tokens = 0;
};

/// @brief Lets the model go on, greedily. @return what it says
std::string say(Tokenizer const& tokenizer, Run& run, int tokens);

/// @brief How many of these an answer has.
int count_said(std::string_view answer, std::span<std::string const> wanted);

/// What one cache answered.
struct TrialResults {
  std::string label;
  std::vector<int> right;  ///< for each trial, how many of the wanted
  RunSummary summary;      ///< means over the steps in which answers were written
};

/// @brief The caches of a retrieval command, the plain one first.
std::vector<Choice> retrieval_choices(std::string_view presets);

/// Questions about texts of one length, and the caches that are asked.
struct Examination {
  int length = 0;
  int prompt_tokens = 0;  ///< of the longest prompt
  std::vector<Trial> trials;
  std::vector<Choice> choices;
};

/// @brief Puts them together. A cap that is a fraction becomes one of the longest prompt.
/// @param context the most tokens that the caches take; 0: what prompts and answers need
/// @throws UserError, kvfreeze::InvalidArgument or kvfreeze::CapacityError if a cache cannot be
/// made: before the long work
Examination examine(Engine& engine, int length, std::vector<Trial> trials,
                    std::vector<Choice> choices, int context);

/// @brief Asks one cache all questions, greedily. What a prompt has in common with the one before
/// it is read once, by caches that can go back.
/// @param done told after each question
TrialResults answer_trials(Engine& engine, Choice const& choice, std::span<Trial const> trials,
                           std::function<void()> const& done);

/// @brief Asks all caches of an examination, one after the other. @param done as in answer_trials
std::vector<TrialResults> answer_examination(Engine& engine, Examination const& exam,
                                             std::function<void()> const& done);

/// @brief Adds the right answers, the plain cache's beside them, and the run's figures.
void put_results(Json& json, TrialResults const& results, TrialResults const& plain, int wanted);

/// @brief Columns that end a row of a retrieval table, and their heads.
std::vector<std::string> result_columns(TrialResults const& results, TrialResults const& plain,
                                        int wanted);
std::vector<std::string> result_heads();

}  // namespace llama
