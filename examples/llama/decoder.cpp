#include "decoder.hpp"

#include <ggml-cpu.h>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>

namespace llama {

namespace {

constexpr std::size_t nodes_per_layer = 32;  // generous: a layer has 24

std::span<float const> values(ggml_tensor const* tensor) {
  return {static_cast<float const*>(tensor->data),
          static_cast<std::size_t>(ggml_nelements(tensor))};
}

}  // namespace

void Decoder::ThreadpoolDeleter::operator()(ggml_threadpool* pool) const {
  ggml_threadpool_free(pool);
}

Decoder::Decoder(Model const& model, int threads)
    : model_(model), backend_(ggml_backend_cpu_init()) {
  ggml_threadpool_params parameters = ggml_threadpool_params_default(threads);
  threadpool_.reset(ggml_threadpool_new(&parameters));
  ggml_backend_cpu_set_threadpool(backend_.get(), threadpool_.get());
  ggml_backend_cpu_set_n_threads(backend_.get(), threads);
  for (int layer = 0; layer < model.shape().layers; ++layer) {
    calls_.push_back({this, layer});
  }
  logits_.resize(static_cast<std::size_t>(model.shape().vocabulary));
}

Decoder::~Decoder() {
  backend_.reset();  // it uses the thread pool
}

std::span<float const> Decoder::evaluate(AttentionCache& cache, std::span<int const> tokens) {
  int const count = static_cast<int>(tokens.size());
  std::unique_ptr<Graph>& graph = count == 1 ? decode_ : prefill_;
  if (!graph || graph->tokens != count) {
    graph.reset();  // its memory first
    graph = build(count);
  }
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), cache.length());
  ggml_backend_tensor_set(graph->token_input, tokens.data(), 0, tokens.size_bytes());
  ggml_backend_tensor_set(graph->position_input, positions.data(), 0, tokens.size_bytes());

  cache_ = &cache;
  failed_ = false;
  failure_ = nullptr;
  ggml_status const status = ggml_backend_graph_compute(backend_.get(), graph->nodes);
  cache_ = nullptr;
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  if (status != GGML_STATUS_SUCCESS) {
    throw std::runtime_error(std::string("ggml: ") + ggml_status_to_string(status));
  }
  ggml_backend_tensor_get(graph->logits, logits_.data(), 0, logits_.size() * sizeof(float));
  return logits_;
}

std::unique_ptr<Decoder::Graph> Decoder::build(int tokens) {
  ModelShape const& shape = model_.shape();
  auto graph = std::make_unique<Graph>();
  std::size_t const nodes = nodes_per_layer * static_cast<std::size_t>(shape.layers + 1);
  graph->tokens = tokens;
  graph->context.reset(ggml_init({.mem_size = ggml_tensor_overhead() * nodes +
                                              ggml_graph_overhead_custom(nodes, /*grads=*/false),
                                  .mem_buffer = nullptr,
                                  .no_alloc = true}));
  ggml_context* const context = graph->context.get();
  graph->nodes = ggml_new_graph_custom(context, nodes, /*grads=*/false);
  graph->token_input = ggml_new_tensor_1d(context, GGML_TYPE_I32, tokens);
  graph->position_input = ggml_new_tensor_1d(context, GGML_TYPE_I32, tokens);
  ggml_set_input(graph->token_input);
  ggml_set_input(graph->position_input);

  ggml_tensor* x = ggml_get_rows(context, model_.embedding(), graph->token_input);
  for (int layer = 0; layer < shape.layers; ++layer) {
    x = ggml_add(context, attention(*graph, x, layer), x);
    if (layer == shape.layers - 1 && tokens > 1) {  // only the last token's logits are asked for
      x = ggml_view_2d(context, x, shape.embedding, 1, x->nb[1],
                       static_cast<std::size_t>(tokens - 1) * x->nb[1]);
    }
    x = ggml_add(context, feed_forward(*graph, x, layer), x);
  }
  graph->logits = ggml_mul_mat(context, model_.head(), normalise(*graph, x, model_.output_norm()));
  ggml_set_output(graph->logits);
  ggml_build_forward_expand(graph->nodes, graph->logits);
  graph->memory.reset(ggml_gallocr_new(ggml_backend_cpu_buffer_type()));
  if (!ggml_gallocr_alloc_graph(graph->memory.get(), graph->nodes)) {
    throw std::runtime_error("ggml: no memory for the graph of " + std::to_string(tokens) +
                             " tokens");
  }
  return graph;
}

ggml_tensor* Decoder::attention(Graph const& graph, ggml_tensor* hidden, int layer) {
  ModelShape const& shape = model_.shape();
  LayerWeights const& weights = model_.layers()[static_cast<std::size_t>(layer)];
  ggml_context* const context = graph.context.get();
  ggml_tensor* const x = normalise(graph, hidden, weights.attention_norm);
  auto const project = [&](ggml_tensor* matrix, int heads) {
    return ggml_reshape_3d(context, ggml_mul_mat(context, matrix, x), shape.head_dim, heads,
                           graph.tokens);
  };
  auto const rotate = [&](ggml_tensor* heads) {
    return ggml_rope_ext(context, heads, graph.position_input, model_.rope_factors(),
                         shape.head_dim, GGML_ROPE_TYPE_NORMAL, shape.context, shape.rope_base,
                         /*freq_scale=*/1.0F, /*ext_factor=*/0.0F, /*attn_factor=*/1.0F,
                         /*beta_fast=*/32.0F, /*beta_slow=*/1.0F);
  };
  ggml_tensor* const q = rotate(project(weights.query, shape.query_heads));
  ggml_tensor* const k = rotate(project(weights.key, shape.kv_heads));
  ggml_tensor* const v = project(weights.value, shape.kv_heads);
  ggml_tensor* const attended =
      ggml_map_custom3(context, q, k, v, &Decoder::attend, GGML_N_TASKS_MAX,
                       &calls_[static_cast<std::size_t>(layer)]);
  return ggml_mul_mat(context, weights.output,
                      ggml_reshape_2d(context, attended, shape.embedding, graph.tokens));
}

ggml_tensor* Decoder::feed_forward(Graph const& graph, ggml_tensor* hidden, int layer) const {
  LayerWeights const& weights = model_.layers()[static_cast<std::size_t>(layer)];
  ggml_context* const context = graph.context.get();
  ggml_tensor* const x = normalise(graph, hidden, weights.feed_forward_norm);
  ggml_tensor* const gated = ggml_swiglu_split(context, ggml_mul_mat(context, weights.gate, x),
                                               ggml_mul_mat(context, weights.up, x));
  return ggml_mul_mat(context, weights.down, gated);
}

ggml_tensor* Decoder::normalise(Graph const& graph, ggml_tensor* x, ggml_tensor* weight) const {
  ggml_context* const context = graph.context.get();
  return ggml_mul(context, ggml_rms_norm(context, x, model_.shape().norm_epsilon), weight);
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
