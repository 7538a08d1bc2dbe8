#pragma once

/// @file
/// @brief Histories in which a trigger rewinds again and again.

#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>

#include <catch2/catch.hpp>

#include <cstddef>
#include <optional>
#include <random>
#include <vector>

namespace kvfreeze::gpu::test {

/// Climbs the whole ladder in a few steps of trouble.
inline EntropyLadderTrigger hasty(int rewind_tokens) {
  EntropyLadderTrigger::Settings settings;
  settings.warmup = 12;
  settings.up = 2;
  settings.soft_cooldown = settings.window_cooldown = 2;
  settings.full_cooldown = settings.rewalk_cooldown = 3;
  settings.window_steps = 10;
  settings.rewind_tokens = rewind_tokens;
  settings.max_rewalks = 4;
  return EntropyLadderTrigger{settings};
}

/// What an engine samples from: one token that is nearly sure, or none.
inline std::vector<float> logits_of(std::mt19937& random, bool trouble) {
  std::normal_distribution<float> normal;
  std::vector<float> logits(64);
  for (float& logit : logits) {
    logit = 0.3F * normal(random);
  }
  logits[random() % logits.size()] += trouble ? 0.0F : 8.0F;
  return logits;
}

/// @brief Calm steps, then trouble until the sequence has gone back so often; the engine learns of
/// each rewind when it has enqueued `late` steps more.
template <class Twins>
void live(Twins& twins, std::size_t sequence, int rewinds, int late, unsigned seed) {
  std::mt19937 random(seed);
  int seen = 0;
  int recoveries = 0;
  int calm = 40;
  for (int i = 0; i < 400 && seen < rewinds; ++i) {
    bool const trouble = --calm < 0;
    recoveries += twins.step({sequence}, logits_of(random, trouble)) ? 1 : 0;
    std::optional<int> const rewound = twins.rewound(sequence);
    if (!rewound) {
      continue;
    }
    for (int step = 0; step < late; ++step) {
      twins.step({sequence}, logits_of(random, true));
    }
    if (late > 0) {
      twins.truncate(sequence, *twins.rewound(sequence));  // as an engine of the host would
    } else {
      twins.go_back(sequence);
    }
    seen += 1;
    calm = 25;
  }
  CHECK(seen == rewinds);
  CHECK(recoveries > rewinds);
}

}  // namespace kvfreeze::gpu::test
