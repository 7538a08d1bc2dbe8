#pragma once

#include "json.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace llama {

/// What two caches made of the same place in a text.
struct Prediction {
  double kl = 0.0;         ///< KL(plain || preset) of the next-token distributions, nats
  double nll_plain = 0.0;  ///< -log p(next token) with the plain cache, nats
  double nll = 0.0;        ///< the same with the preset
  bool same_top = false;   ///< both find the same token likeliest
};

/// @brief Compares two next-token distributions over the whole vocabulary, in double.
/// @param next the token that really follows
Prediction compare_logits(std::span<float const> plain, std::span<float const> preset, int next);

/// Means over many places.
struct Quality {
  std::size_t positions = 0;
  double perplexity_plain = 0.0;
  double perplexity = 0.0;
  double perplexity_ratio = 0.0;
  double kl_mean = 0.0;  ///< nats
  double kl_low = 0.0;   ///< of it, 95 % confidence; NaN where there are too few places
  double kl_high = 0.0;
  double kl_p99 = 0.0;  ///< the 99th percentile over places
  double top1_agreement = 0.0;
};

Quality summarise(std::span<Prediction const> predictions);

/// @brief The divergence at each place.
std::vector<double> divergences(std::span<Prediction const> predictions);

/// @brief Adds the figures to a flat JSON object.
void put_figures(Json& json, Quality const& quality);

}  // namespace llama
