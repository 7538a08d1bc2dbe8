#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace llama {

/// How a token is drawn.
struct SamplerOptions {
  double temperature = 0.7;     ///< 0 takes the likeliest token, whatever the rest says
  double top_p = 0.95;          ///< total probability of the tokens to draw from
  double repeat_penalty = 1.0;  ///< divides the positive logits of recent tokens
};

/// @brief Picks the next token: temperature and nucleus (top-p) sampling, greedy at temperature 0.
///
/// All of its memory is `State`, so that an engine can go back to where it was.
class Sampler {
 public:
  using State = std::uint64_t;

  Sampler(SamplerOptions options, std::uint64_t seed, std::vector<int> banned = {})
      : options_(options), state_(seed), banned_(std::move(banned)) {}

  /// @param recent tokens that the repeat penalty holds for
  /// @pre logits are finite and there are more of them than banned tokens
  int sample(std::span<float const> logits, std::span<int const> recent = {});

  [[nodiscard]] State state() const { return state_; }

  void restore(State state) { state_ = state; }

  void set_temperature(double temperature) { options_.temperature = temperature; }

 private:
  struct Candidate {
    float logit;
    int token;
  };

  void adjust_logits(std::span<float const> logits, std::span<int const> recent);
  double next_uniform();

  SamplerOptions options_;
  State state_;
  std::vector<int> banned_;
  std::vector<float> logits_;
  std::vector<Candidate> candidates_;
};

}  // namespace llama
