#pragma once

#include <cstdint>

namespace kvfreeze {

/// What a trigger sees of one step of one sequence.
struct StepSignals {
  std::uint32_t step = 0;
  int length = 0;                ///< tokens in the sequence
  bool has_logits = false;       ///< the next three are valid
  float entropy = 0.0F;          ///< of the next-token distribution, nats
  float entropy_change = 0.0F;   ///< against its running mean, nats
  float top_probability = 1.0F;  ///< of the likeliest token
  float missed_mass = 0.0F;      ///< mean over lanes of the estimated mass of frozen rows
  float missed_mass_max = 0.0F;  ///< the worst lane's; sleepers and lanes without digest count 0
  float query_cosine = 1.0F;     ///< mean over lanes of cos(query, previous query)
};

}  // namespace kvfreeze
