#pragma once

#include "backend.hpp"
#include "caches.hpp"
#include "graph.hpp"
#include "model.hpp"

#include <atomic>
#include <exception>
#include <memory>
#include <span>
#include <vector>

namespace llama {

/// @brief The transformer: tokens in, logits out; keys, values and attention are the cache's.
///
/// ggml computes everything but attention. At the place of attention the graph has a custom
/// operation that calls `AttentionCache::attend` on each of ggml's threads. The length of the
/// cache is no part of the graph, so one graph serves all decode steps of all caches.
class Decoder {
 public:
  Decoder(Model const& model, int threads);
  Decoder(Decoder const&) = delete;
  Decoder& operator=(Decoder const&) = delete;

  /// @brief Appends tokens to the cache. The caller ends the step with `cache.advance()`.
  /// @return logits of the last token, valid until the next call
  /// @throws whatever the cache throws
  std::span<float const> evaluate(AttentionCache& cache, std::span<int const> tokens);

 private:
  /// What the custom operation of a layer is told.
  struct LayerCall {
    Decoder* decoder;
    int layer;
  };

  static void attend(ggml_tensor* out, ggml_tensor const* q, ggml_tensor const* k,
                     ggml_tensor const* v, int thread, int threads, void* call);
  void attend_layer(int layer, ggml_tensor* out, ggml_tensor const* q, ggml_tensor const* k,
                    ggml_tensor const* v, kvfreeze::Part part) noexcept;

  Model const& model_;
  Backend backend_;
  std::vector<LayerCall> calls_;
  std::unique_ptr<Graph> decode_;   // one token
  std::unique_ptr<Graph> prefill_;  // as many as last time
  std::vector<float> logits_;
  AttentionCache* cache_ = nullptr;  // of the evaluation under way
  std::atomic<bool> failed_ = false;
  std::exception_ptr failure_;
};

}  // namespace llama
