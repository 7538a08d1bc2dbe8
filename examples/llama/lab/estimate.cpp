#include "estimate.hpp"

namespace llama::lab {

namespace {

/// For a small model on two cores; what is measured puts it right.
double guess(Subject const& subject) {
  constexpr double read_per_second = 150.0;
  constexpr double decoded_per_second = 40.0;
  double decoded = static_cast<double>(subject.continuation.size());
  for (Question const& question : subject.questions) {
    decoded += static_cast<double>(question.tokens.size()) + question.answer_tokens;
  }
  // One in three cells reads its prompt anew: that is what saving it is for.
  return static_cast<double>(subject.prompt.size()) / (3.0 * read_per_second) +
         decoded / decoded_per_second;
}

std::pair<std::string, int> kind(Subject const& subject) {
  return {subject.name.task + " " + subject.name.variant, subject.name.context};
}

}  // namespace

void Estimate::learn(Subject const& subject, double seconds) {
  Mean& mean = measured_[kind(subject)];
  mean.sum += seconds;
  mean.count += 1.0;
  all_seconds_ += seconds;
  all_guesses_ += guess(subject);
}

double Estimate::seconds(Subject const& subject) const {
  auto const found = measured_.find(kind(subject));
  if (found != measured_.end()) {
    return found->second.sum / found->second.count;
  }
  return guess(subject) * (all_guesses_ > 0.0 ? all_seconds_ / all_guesses_ : 1.0);
}

}  // namespace llama::lab
