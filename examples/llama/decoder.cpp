#include "decoder.hpp"

#include <cstddef>

namespace llama {

namespace {

std::span<float const> values(ggml_tensor const* tensor) {
  return {static_cast<float const*>(tensor->data),
          static_cast<std::size_t>(ggml_nelements(tensor))};
}

}  // namespace

Decoder::Decoder(Model const& model, int threads) : model_(model), backend_(threads) {
  for (int layer = 0; layer < model.shape().layers; ++layer) {
    calls_.push_back({this, layer});
  }
  logits_.resize(static_cast<std::size_t>(model.shape().vocabulary));
}

std::span<float const> Decoder::evaluate(AttentionCache& cache, std::span<int const> tokens) {
  int const count = static_cast<int>(tokens.size());
  std::unique_ptr<Graph>& graph = count == 1 ? decode_ : prefill_;
  if (!graph || graph->tokens() != count) {
    graph.reset();  // its memory first
    auto const attention = [this](ggml_context* context, int layer, Projections const& p) {
      return ggml_map_custom3(context, p.q, p.k, p.v, &Decoder::attend, GGML_N_TASKS_MAX,
                              &calls_[static_cast<std::size_t>(layer)]);
    };
    graph = std::make_unique<Graph>(model_, count, /*logits_of=*/1, attention);
  }
  cache_ = &cache;
  failed_ = false;
  failure_ = nullptr;
  graph->compute(backend_.get(), tokens, cache.length());
  cache_ = nullptr;
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  graph->read_logits(logits_);
  return logits_;
}

void Decoder::attend(ggml_tensor* out, ggml_tensor const* q, ggml_tensor const* k,
                     ggml_tensor const* v, int thread, int threads, void* call) {
  auto const [decoder, layer] = *static_cast<LayerCall const*>(call);
  decoder->attend_layer(layer, out, q, k, v, {thread, threads});
}

void Decoder::attend_layer(int layer, ggml_tensor* out, ggml_tensor const* q, ggml_tensor const* k,
                           ggml_tensor const* v, kvfreeze::Part part) noexcept {
  // An exception must not unwind through ggml's C frames: keep the first, skip what is left.
  if (failed_) {
    return;
  }
  try {
    std::span<float> const result(static_cast<float*>(out->data),
                                  static_cast<std::size_t>(ggml_nelements(out)));
    cache_->attend(layer, values(q), values(k), values(v), result, part);
  } catch (...) {
    if (!failed_.exchange(true)) {
      failure_ = std::current_exception();
    }
  }
}

}  // namespace llama
