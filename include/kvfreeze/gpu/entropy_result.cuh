#pragma once

#include <cstdint>

namespace kvfreeze::gpu {

enum class EntropyStatus : std::uint32_t {
  valid,
  not_finite,  ///< a logit is NaN or +infinity: `top_index` is the first such
  no_mass      ///< all logits are -infinity
};

/// @brief The softmax distribution of a row of logits, in figures. They are NaN unless `valid`.
struct Entropy {
  double log_sum_exp = 0.0;      ///< nats
  double entropy_nats = 0.0;     ///< in [0, ln n]
  double top_probability = 0.0;  ///< of the likeliest
  double change = 0.0;           ///< of the entropy against a running mean, nats; 0 without one
  std::uint32_t top_index = 0;   ///< the first of the likeliest
  EntropyStatus status = EntropyStatus::valid;
};

}  // namespace kvfreeze::gpu
