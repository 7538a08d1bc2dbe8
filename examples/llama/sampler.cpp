#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llama {

int Sampler::sample(std::span<float const> logits, std::span<int const> recent) {
  adjust_logits(logits, recent);
  auto const top = std::max_element(logits_.begin(), logits_.end());
  int const best = static_cast<int>(top - logits_.begin());
  if (options_.temperature <= 0.0) {
    return best;
  }

  // Tokens less likely than e^-16 times the likeliest are noise: not worth a place in the sort.
  auto const highest = static_cast<double>(*top);
  auto const floor = static_cast<float>(highest - 16.0 * options_.temperature);
  candidates_.clear();
  for (std::size_t token = 0; token < logits_.size(); ++token) {
    if (logits_[token] >= floor) {
      candidates_.push_back({logits_[token], static_cast<int>(token)});
    }
  }
  std::sort(candidates_.begin(), candidates_.end(), [](Candidate a, Candidate b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
  auto const weight = [&](Candidate c) {
    return std::exp((static_cast<double>(c.logit) - highest) / options_.temperature);
  };
  double total = 0.0;
  for (Candidate const c : candidates_) {
    total += weight(c);
  }
  double nucleus = 0.0;
  std::size_t kept = 0;
  while (kept < candidates_.size() && nucleus < options_.top_p * total) {
    nucleus += weight(candidates_[kept++]);
  }
  double left = next_uniform() * nucleus;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight(candidates_[i]);
    if (left < 0.0) {
      return candidates_[i].token;
    }
  }
  return best;
}

void Sampler::adjust_logits(std::span<float const> logits, std::span<int const> recent) {
  logits_.assign(logits.begin(), logits.end());
  for (int const token : banned_) {
    logits_[static_cast<std::size_t>(token)] = -std::numeric_limits<float>::infinity();
  }
  if (options_.temperature <= 0.0) {
    return;
  }
  auto const penalty = static_cast<float>(options_.repeat_penalty);
  for (int const token : recent) {
    auto const at = static_cast<std::size_t>(token);
    float const logit = logits[at];  // the original: a token is punished once, however often it was
    if (logits_[at] == logit) {
      logits_[at] = logit > 0.0F ? logit / penalty : logit * penalty;
    }
  }
}

double Sampler::next_uniform() {
  // SplitMix64: one word of state is all that a rewind has to remember.
  state_ += 0x9E3779B97F4A7C15U;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  z ^= z >> 31U;
  return static_cast<double>(z >> 11U) * 0x1p-53;
}

}  // namespace llama
