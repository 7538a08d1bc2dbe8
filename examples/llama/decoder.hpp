#pragma once

#include "caches.hpp"
#include "model.hpp"

#include <ggml-cpp.h>

#include <atomic>
#include <exception>
#include <memory>
#include <span>
#include <vector>

struct ggml_threadpool;

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
  ~Decoder();

  /// @brief Appends tokens to the cache. The caller ends the step with `cache.advance()`.
  /// @return logits of the last token, valid until the next call
  /// @throws whatever the cache throws
  std::span<float const> evaluate(AttentionCache& cache, std::span<int const> tokens);

 private:
  struct Graph {
    int tokens = 0;
    ggml_context_ptr context;
    ggml_gallocr_ptr memory;
    ggml_cgraph* nodes = nullptr;
    ggml_tensor* token_input = nullptr;
    ggml_tensor* position_input = nullptr;
    ggml_tensor* logits = nullptr;
  };

  /// What the custom operation of a layer is told.
  struct LayerCall {
    Decoder* decoder;
    int layer;
  };

  struct ThreadpoolDeleter {
    void operator()(ggml_threadpool* pool) const;
  };

  [[nodiscard]] std::unique_ptr<Graph> build(int tokens);
  ggml_tensor* attention(Graph const& graph, ggml_tensor* hidden, int layer);
  ggml_tensor* feed_forward(Graph const& graph, ggml_tensor* hidden, int layer) const;
  ggml_tensor* normalise(Graph const& graph, ggml_tensor* x, ggml_tensor* weight) const;
  static void attend(ggml_tensor* out, ggml_tensor const* q, ggml_tensor const* k,
                     ggml_tensor const* v, int thread, int threads, void* call);
  void attend_layer(int layer, ggml_tensor* out, ggml_tensor const* q, ggml_tensor const* k,
                    ggml_tensor const* v, kvfreeze::Part part) noexcept;

  Model const& model_;
  ggml_backend_ptr backend_;
  std::unique_ptr<ggml_threadpool, ThreadpoolDeleter> threadpool_;
  std::vector<LayerCall> calls_;
  std::unique_ptr<Graph> decode_;   // one token
  std::unique_ptr<Graph> prefill_;  // as many as last time
  std::vector<float> logits_;
  AttentionCache* cache_ = nullptr;  // of the evaluation under way
  std::atomic<bool> failed_ = false;
  std::exception_ptr failure_;
};

}  // namespace llama
