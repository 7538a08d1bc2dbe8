#pragma once

#include <kvfreeze/scheduler/oq_score.hpp>

#include "engine.hpp"

#include <functional>
#include <vector>

namespace llama {

/// @brief ARKV's layer scores of texts, from the attention of their last queries.
class OqMeasurement {
 public:
  static constexpr int queries = 32;  ///< last ones of a text
  static constexpr int least_tokens = 4 * queries;

  explicit OqMeasurement(Engine& engine);

  /// @brief Reads a text into a plain cache of its own and adds what its last queries say.
  /// @param text at least `least_tokens`
  /// @param done called with the part of the work that is done
  void add(std::vector<int> const& text, std::function<void(double)> const& done);

  /// @brief Each layer's score over the largest one, for each of its KV heads:
  /// [layers * kv_heads].
  [[nodiscard]] std::vector<float> shares() const;

 private:
  Engine& engine_;
  std::vector<kvfreeze::OqScore> scores_;
};

}  // namespace llama
