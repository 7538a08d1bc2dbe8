#pragma once

#include <kvfreeze/report.hpp>

#include "quality.hpp"
#include "run.hpp"
#include "sampler.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace llama {

/// How a text goes on.
struct GenerationOptions {
  int tokens = 500;  ///< the most that are generated
  SamplerOptions sampler;
  std::uint64_t seed = 1;
  std::optional<double> rewalk_temperature;  ///< half of the temperature where not given
  int max_rewalks = 32;                      ///< then the triggers see no more logits
  std::vector<int> ends;                     ///< tokens with which the model ends a text
  bool stop_at_end = false;                  ///< otherwise such tokens are not sampled
};

/// @brief A text as it grows, with everything needed to take the last tokens back.
///
/// When the cache asks for a Rewalk Regeneration, text and sampler go back to where they were
/// then, and the same stretch is drawn again at a lower temperature.
class Generation {
 public:
  /// One generated token.
  struct Event {
    int token;
    kvfreeze::StepReport const& report;
    int generated;  ///< tokens so far, this one included
    double tokens_per_second;
    int taken_back;  ///< by a rewalk that followed
  };

  /// @param prompt at least one token
  /// @param plain goes through the same text beside `run`, for comparison
  Generation(GenerationOptions options, std::vector<int> prompt, Run run,
             std::optional<Run> plain = {});

  /// @brief Feeds the prompt.
  void read_prompt();

  /// @brief Generates. @param show is called after each token
  void run(std::function<void(Event const&)> const& show);

  [[nodiscard]] std::span<int const> generated() const {
    return std::span(run_.tokens()).subspan(prompt_.size());
  }

  [[nodiscard]] Run& preset_run() { return run_; }

  [[nodiscard]] std::optional<Run> const& plain_run() const { return plain_; }

  [[nodiscard]] std::vector<int> const& prompt() const { return prompt_; }

  [[nodiscard]] double seconds_to_first_token() const { return seconds_to_first_token_; }

  /// Rewalks so far.
  [[nodiscard]] int rewalks() const { return rewalks_; }

  /// What the two runs make of the text; nothing without a plain one.
  [[nodiscard]] Quality quality() const;

 private:
  /// What is remembered of each generated token.
  struct Place {
    Sampler::State before = 0;  // the sampler's state that the token was drawn from
    Prediction prediction;
  };

  int sample();
  [[nodiscard]] double rewalk_temperature() const;
  int go_back(int length);
  void rewind(Run& run, int length);

  GenerationOptions options_;
  std::vector<int> prompt_;
  Sampler sampler_;
  Run run_;
  std::optional<Run> plain_;
  std::vector<Place> places_;
  int cool_until_ = 0;
  int rewalks_ = 0;
  double decode_seconds_ = 0.0;
  double seconds_to_first_token_ = 0.0;
};

}  // namespace llama
