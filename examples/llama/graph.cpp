#include "graph.hpp"

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace llama {

namespace {

constexpr std::size_t nodes_per_layer =
    40;  // generous: a layer has 24, or 31 with ggml's attention

}  // namespace

Graph::Graph(Model const& model, int tokens, int logits_of, AttentionBuilder const& attention)
    : model_(&model), tokens_(tokens) {
  ModelShape const& shape = model.shape();
  std::size_t const nodes = nodes_per_layer * static_cast<std::size_t>(shape.layers + 1);
  context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * nodes +
                                        ggml_graph_overhead_custom(nodes, /*grads=*/false),
                            .mem_buffer = nullptr,
                            .no_alloc = true}));
  ggml_context* const context = context_.get();
  nodes_ = ggml_new_graph_custom(context, nodes, /*grads=*/false);
  token_input_ = ggml_new_tensor_1d(context, GGML_TYPE_I32, tokens);
  position_input_ = ggml_new_tensor_1d(context, GGML_TYPE_I32, tokens);
  ggml_set_input(token_input_);
  ggml_set_input(position_input_);

  ggml_tensor* x = ggml_get_rows(context, model.embedding(), token_input_);
  for (int layer = 0; layer < shape.layers; ++layer) {
    x = ggml_add(context, this->attention(x, layer, attention), x);
    if (layer == shape.layers - 1 && logits_of < tokens) {  // the others' logits are not asked for
      x = ggml_view_2d(context, x, shape.embedding, logits_of, x->nb[1],
                       static_cast<std::size_t>(tokens - logits_of) * x->nb[1]);
    }
    x = ggml_add(context, feed_forward(x, layer), x);
  }
  logits_ = ggml_mul_mat(context, model.head(), normalise(x, model.output_norm()));
  ggml_set_output(logits_);
  ggml_build_forward_expand(nodes_, logits_);
  memory_.reset(ggml_gallocr_new(ggml_backend_cpu_buffer_type()));
  if (!ggml_gallocr_alloc_graph(memory_.get(), nodes_)) {
    throw std::runtime_error("ggml: no memory for the graph of " + std::to_string(tokens) +
                             " tokens");
  }
}

void Graph::compute(ggml_backend_t backend, std::span<int const> tokens, int first_position) {
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), first_position);
  ggml_backend_tensor_set(token_input_, tokens.data(), 0, tokens.size_bytes());
  ggml_backend_tensor_set(position_input_, positions.data(), 0, tokens.size_bytes());
  ggml_status const status = ggml_backend_graph_compute(backend, nodes_);
  if (status != GGML_STATUS_SUCCESS) {
    throw std::runtime_error(std::string("ggml: ") + ggml_status_to_string(status));
  }
}

void Graph::read_logits(std::span<float> out) const {
  ggml_backend_tensor_get(logits_, out.data(), 0, out.size_bytes());
}

ggml_tensor* Graph::attention(ggml_tensor* hidden, int layer, AttentionBuilder const& attention) {
  ModelShape const& shape = model_->shape();
  LayerWeights const& weights = model_->layers()[static_cast<std::size_t>(layer)];
  ggml_context* const context = context_.get();
  ggml_tensor* const x = normalise(hidden, weights.attention_norm);
  auto const project = [&](ggml_tensor* matrix, int heads) {
    return ggml_reshape_3d(context, ggml_mul_mat(context, matrix, x), shape.head_dim, heads,
                           tokens_);
  };
  auto const rotate = [&](ggml_tensor* heads) {
    return ggml_rope_ext(context, heads, position_input_, model_->rope_factors(), shape.head_dim,
                         GGML_ROPE_TYPE_NORMAL, shape.context, shape.rope_base,
                         /*freq_scale=*/1.0F, /*ext_factor=*/0.0F, /*attn_factor=*/1.0F,
                         /*beta_fast=*/32.0F, /*beta_slow=*/1.0F);
  };
  Projections const projections{.q = rotate(project(weights.query, shape.query_heads)),
                                .k = rotate(project(weights.key, shape.kv_heads)),
                                .v = project(weights.value, shape.kv_heads)};
  ggml_tensor* const attended = attention(context, layer, projections);
  return ggml_mul_mat(context, weights.output,
                      ggml_reshape_2d(context, attended, shape.embedding, tokens_));
}

ggml_tensor* Graph::feed_forward(ggml_tensor* hidden, int layer) {
  LayerWeights const& weights = model_->layers()[static_cast<std::size_t>(layer)];
  ggml_context* const context = context_.get();
  ggml_tensor* const x = normalise(hidden, weights.feed_forward_norm);
  ggml_tensor* const gated = ggml_swiglu_split(context, ggml_mul_mat(context, weights.gate, x),
                                               ggml_mul_mat(context, weights.up, x));
  return ggml_mul_mat(context, weights.down, gated);
}

ggml_tensor* Graph::normalise(ggml_tensor* x, ggml_tensor* weight) {
  ggml_context* const context = context_.get();
  return ggml_mul(context, ggml_rms_norm(context, x, model_->shape().norm_epsilon), weight);
}

}  // namespace llama
