#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace llama {

/// @brief Picks the next token: temperature and nucleus (top-p) sampling, greedy at temperature 0.
///
/// All of its memory is `State`, so that an engine can go back to where it was.
class Sampler {
 public:
  using State = std::uint64_t;

  Sampler(double temperature, double top_p, std::uint64_t seed, std::vector<int> banned = {})
      : temperature_(temperature), top_p_(top_p), state_(seed), banned_(std::move(banned)) {}

  /// @pre logits are finite and there are more of them than banned tokens
  int sample(std::span<float const> logits);

  [[nodiscard]] State state() const { return state_; }

  void restore(State state) { state_ = state; }

  [[nodiscard]] double temperature() const { return temperature_; }

  void set_temperature(double temperature) { temperature_ = temperature; }

 private:
  struct Candidate {
    float logit;
    int token;
  };

  [[nodiscard]] bool is_banned(int token) const;
  double next_uniform();

  double temperature_;
  double top_p_;
  State state_;
  std::vector<int> banned_;
  std::vector<Candidate> candidates_;
};

}  // namespace llama
