#pragma once

#include "model.hpp"

#include <ggml-cpp.h>

#include <functional>
#include <span>

namespace llama {

/// Queries, keys and values of a layer, rotated: [head_dim, heads, tokens].
struct Projections {
  ggml_tensor* q;
  ggml_tensor* k;
  ggml_tensor* v;
};

/// Puts a layer's attention into a graph; the result is [head_dim, query heads, tokens].
using AttentionBuilder = std::function<ggml_tensor*(ggml_context*, int layer, Projections const&)>;

/// @brief The transformer as a ggml graph for a fixed number of tokens, all but attention.
class Graph {
 public:
  /// @param logits_of tokens from the end whose logits are computed
  /// @throws std::runtime_error if there is no memory for it
  Graph(Model const& model, int tokens, int logits_of, AttentionBuilder const& attention);

  [[nodiscard]] int tokens() const { return tokens_; }

  /// @brief Computes the graph with `tokens()` tokens of which the first is at `first_position`.
  /// @throws std::runtime_error if ggml fails
  void compute(ggml_backend_t backend, std::span<int const> tokens, int first_position);

  /// @brief Copies the logits of the last `logits_of` tokens.
  void read_logits(std::span<float> out) const;

 private:
  ggml_tensor* attention(ggml_tensor* hidden, int layer, AttentionBuilder const& attention);
  ggml_tensor* feed_forward(ggml_tensor* hidden, int layer);
  ggml_tensor* normalise(ggml_tensor* x, ggml_tensor* weight);

  Model const* model_;
  int tokens_;
  ggml_context_ptr context_;
  ggml_gallocr_ptr memory_;
  ggml_cgraph* nodes_ = nullptr;
  ggml_tensor* token_input_ = nullptr;
  ggml_tensor* position_input_ = nullptr;
  ggml_tensor* logits_ = nullptr;
};

}  // namespace llama
