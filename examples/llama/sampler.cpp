#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llama {

int Sampler::sample(std::span<float const> logits) {
  int best = -1;
  float highest = -std::numeric_limits<float>::infinity();
  for (int token = 0; token < static_cast<int>(logits.size()); ++token) {
    float const logit = logits[static_cast<std::size_t>(token)];
    if (logit > highest && !is_banned(token)) {
      best = token;
      highest = logit;
    }
  }
  if (temperature_ <= 0.0) {
    return best;
  }

  // Tokens less likely than e^-16 times the likeliest are noise: not worth a place in the sort.
  double const floor = static_cast<double>(highest) - 16.0 * temperature_;
  candidates_.clear();
  for (int token = 0; token < static_cast<int>(logits.size()); ++token) {
    float const logit = logits[static_cast<std::size_t>(token)];
    if (static_cast<double>(logit) >= floor && !is_banned(token)) {
      candidates_.push_back({logit, token});
    }
  }
  std::sort(candidates_.begin(), candidates_.end(), [](Candidate a, Candidate b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
  auto const weight = [&](Candidate c) {
    return std::exp(static_cast<double>(c.logit - highest) / temperature_);
  };
  double total = 0.0;
  for (Candidate const c : candidates_) {
    total += weight(c);
  }
  double nucleus = 0.0;
  std::size_t kept = 0;
  while (kept < candidates_.size() && nucleus < top_p_ * total) {
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

bool Sampler::is_banned(int token) const {
  return std::find(banned_.begin(), banned_.end(), token) != banned_.end();
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
