#include "ggml_attention.hpp"

#include "backend.hpp"
#include "graph.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace llama {

namespace {

/// -infinity where a query would see a later key: [keys, queries].
std::vector<float> causal_mask(std::size_t tokens) {
  std::vector<float> mask(tokens * tokens, 0.0F);
  for (std::size_t query = 0; query < tokens; ++query) {
    for (std::size_t key = query + 1; key < tokens; ++key) {
      mask[query * tokens + key] = -std::numeric_limits<float>::infinity();
    }
  }
  return mask;
}

/// softmax(q k' / sqrt(head_dim) + mask) v, all heads at once.
ggml_tensor* attend(ggml_context* context, Projections const& p, ggml_tensor* mask) {
  ggml_tensor* const q = ggml_permute(context, p.q, 0, 2, 1, 3);  // [head_dim, tokens, heads]
  ggml_tensor* const k = ggml_permute(context, p.k, 0, 2, 1, 3);
  ggml_tensor* const v = ggml_cont(context, ggml_permute(context, p.v, 1, 2, 0, 3));
  ggml_tensor* const scores = ggml_mul_mat(context, k, q);
  ggml_mul_mat_set_prec(scores, GGML_PREC_F32);
  float const scale = 1.0F / std::sqrt(static_cast<float>(p.q->ne[0]));
  ggml_tensor* const weights = ggml_soft_max_ext(context, scores, mask, scale, /*max_bias=*/0.0F);
  ggml_tensor* const sums = ggml_mul_mat(context, v, weights);  // [head_dim, tokens, heads]
  return ggml_cont(context, ggml_permute(context, sums, 0, 2, 1, 3));
}

}  // namespace

std::vector<float> logits_with_ggml_attention(Model const& model, int threads,
                                              std::span<int const> tokens, int last) {
  auto const count = static_cast<std::int64_t>(tokens.size());
  ggml_context_ptr const context(
      ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  ggml_tensor* const mask = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, count, count);
  ggml_backend_buffer_ptr const memory(
      ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_cpu_buffer_type()));
  std::vector<float> const values = causal_mask(tokens.size());
  ggml_backend_tensor_set(mask, values.data(), 0, values.size() * sizeof(float));

  Backend const backend(threads);
  Graph graph(
      model, static_cast<int>(count), last,
      [&](ggml_context* of_graph, int, Projections const& p) { return attend(of_graph, p, mask); });
  graph.compute(backend.get(), tokens, 0);
  std::vector<float> logits(static_cast<std::size_t>(last) *
                            static_cast<std::size_t>(model.shape().vocabulary));
  graph.read_logits(logits);
  return logits;
}

}  // namespace llama
