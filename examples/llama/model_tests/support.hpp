#pragma once

#include "caches.hpp"
#include "model.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <string>

/// Empty where no model is at hand.
inline std::string model_path() {
  char const* const path = std::getenv("KVFREEZE_MODEL");
  if (path == nullptr) {
    WARN("KVFREEZE_MODEL is not set: nothing is tested here");
  }
  return path == nullptr ? "" : path;
}

inline llama::CacheSettings settings_for(llama::ModelShape const& shape, int threads = 1) {
  llama::CacheSettings settings;
  settings.shape = {.layers = shape.layers,
                    .query_heads = shape.query_heads,
                    .kv_heads = shape.kv_heads,
                    .head_dim = shape.head_dim};
  settings.limits.max_tokens = 512;
  settings.limits.max_sequences = 1;
  settings.limits.parts = threads;
  return settings;
}
