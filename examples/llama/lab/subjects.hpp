#pragma once

#include "../tokenizer.hpp"
#include "grid.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama::lab {

/// A question behind a text.
struct Question {
  std::vector<int> tokens;
  std::vector<std::string> wanted;  ///< each of them counts if the answer has it
  int answer_tokens = 0;            ///< the most that the model says
};

/// @brief A text as a cache meets it: a prompt, read without a cap, and what is decoded token by
/// token under it: a given continuation, or questions with the model's answers.
struct Subject {
  SubjectName name;
  std::vector<int> prompt;
  std::vector<int> continuation;    ///< teacher-forced; empty where there are questions
  std::vector<int> recalled;        ///< places of the continuation that the prompt determines
  std::vector<Question> questions;  ///< each of them follows the prompt directly
};

/// A text file.
struct TextFile {
  std::string name;
  std::string content;
};

/// What of which text is measured.
struct SubjectPlan {
  std::vector<std::string> tasks;
  std::vector<int> contexts;
  std::vector<TextFile> texts;
  std::size_t offset = 0;
  int pieces = 1;                                  ///< of kl and stress
  int trials = 1;                                  ///< of the others: texts of each kind
  std::vector<int> depths{10, 30, 50, 70, 90};     ///< of the pass key, percent
  std::vector<int> needle_depths{10, 35, 60, 85};  ///< percent
  std::vector<int> hops{0, 1, 2, 4};               ///< of variable tracking
  int copy_sentences = 4;                          ///< of the passage to copy
  std::uint64_t seed = 1;
};

/// @brief All subjects: contexts, then texts, then tasks, then variants and pieces.
/// @throws UserError if a text is too short, or a context too small for a task
std::vector<Subject> make_subjects(SubjectPlan const& plan, Tokenizer const& tokenizer);

}  // namespace llama::lab
