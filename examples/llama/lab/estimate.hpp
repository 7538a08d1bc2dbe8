#pragma once

#include "subjects.hpp"

#include <map>
#include <string>
#include <utility>

namespace llama::lab {

/// @brief How long cells take: the mean of those of the same task and context, or a guess from
/// their numbers of tokens, put right by how wrong the guesses were so far.
class Estimate {
 public:
  /// @brief Learns from a cell that was measured.
  void learn(Subject const& subject, double seconds);

  /// @brief Seconds that a cell of this subject takes.
  [[nodiscard]] double seconds(Subject const& subject) const;

 private:
  struct Mean {
    double sum = 0.0;
    double count = 0.0;
  };

  std::map<std::pair<std::string, int>, Mean> measured_;  // by task and variant, and context
  double all_seconds_ = 0.0;
  double all_guesses_ = 0.0;
};

}  // namespace llama::lab
