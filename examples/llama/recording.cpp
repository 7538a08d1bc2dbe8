#include "recording.hpp"

#include <kvfreeze/element.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace llama {

RecordingCache::RecordingCache(std::unique_ptr<AttentionCache> inner, kvfreeze::Shape const& shape,
                               int rows, int queries, int vocabulary)
    : inner_(std::move(inner)), recording_(shape, rows, queries, vocabulary) {}

void RecordingCache::attend(int layer, std::span<float const> q, std::span<float const> k,
                            std::span<float const> v, std::span<float> out, kvfreeze::Part part) {
  inner_->attend(layer, q, k, v, out, part);
  if (part.index != 0) {
    return;
  }
  Recording& r = recording_;
  int const dim = r.shape.head_dim;
  int const width = r.shape.query_heads * dim;
  int const tokens = static_cast<int>(q.size()) / width;
  int const first = inner_->length();
  auto const half = [](float x) { return kvfreeze::from_float<kvfreeze::Half>(x); };
  for (int t = 0; t < tokens; ++t) {
    int const row = first + t;
    for (int head = 0; head < r.shape.kv_heads; ++head) {
      std::size_t const to = r.row_at(layer * r.shape.kv_heads + head, row);
      auto const from = static_cast<std::size_t>((t * r.shape.kv_heads + head) * dim);
      for (std::size_t i = 0; i < static_cast<std::size_t>(dim); ++i) {
        r.keys[to + i] = half(k[from + i]);
        r.values[to + i] = half(v[from + i]);
      }
    }
    int const query = row - (r.rows - r.queries);
    if (query >= 0) {
      std::copy_n(q.begin() + t * width, width,
                  r.query_values.begin() + static_cast<std::ptrdiff_t>(r.query_at(query, layer)));
    }
  }
}

kvfreeze::StepReport RecordingCache::advance(std::span<float const> logits) {
  Recording& r = recording_;
  kvfreeze::StepReport const report = inner_->advance(logits);
  int const query = inner_->length() - 1 - (r.rows - r.queries);
  if (query >= 0 && !logits.empty() && r.vocabulary != 0) {
    auto const to = r.logit_values.begin() + static_cast<std::ptrdiff_t>(query) * r.vocabulary;
    std::transform(logits.begin(), logits.end(), to,
                   [](float x) { return kvfreeze::from_float<kvfreeze::BFloat16>(x); });
  }
  return report;
}

}  // namespace llama
