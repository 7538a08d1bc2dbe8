#include "oq_measurement.hpp"

#include "recording.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>

namespace llama {

namespace {

/// Softmax weights of a query head's last queries over the keys before the first of them.
/// @return [queries][rows - queries]
std::vector<float> last_weights(Recording const& r, int layer, int query_head) {
  constexpr int queries = OqMeasurement::queries;
  auto const dim = static_cast<std::size_t>(r.shape.head_dim);
  int const lane = layer * r.shape.kv_heads + query_head / (r.shape.query_heads / r.shape.kv_heads);
  int const keys = r.rows - queries;
  double const scale = 1.0 / std::sqrt(static_cast<double>(dim));
  std::vector<float> result;
  std::vector<double> logits;
  for (int i = 0; i < queries; ++i) {
    auto const q = r.query(i, layer).subspan(static_cast<std::size_t>(query_head) * dim, dim);
    logits.clear();
    for (int row = 0; row <= keys + i; ++row) {
      auto const k = r.key(lane, row);
      double dot = 0.0;
      for (std::size_t d = 0; d < dim; ++d) {
        dot += static_cast<double>(q[d]) * static_cast<double>(kvfreeze::to_float(k[d]));
      }
      logits.push_back(dot * scale);
    }
    double const highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (double& logit : logits) {
      logit = std::exp(logit - highest);
      sum += logit;
    }
    for (int row = 0; row < keys; ++row) {
      result.push_back(static_cast<float>(logits[static_cast<std::size_t>(row)] / sum));
    }
  }
  return result;
}

}  // namespace

OqMeasurement::OqMeasurement(Engine& engine)
    : engine_(engine), scores_(static_cast<std::size_t>(engine.shape().layers)) {}

void OqMeasurement::add(std::vector<int> const& text, std::function<void(double)> const& done) {
  Choice plain(find_preset("Plain"));
  plain.context = static_cast<int>(text.size());
  CacheSettings const settings = engine_.settings(plain);
  kvfreeze::Shape const& shape = settings.shape;
  auto cache = std::make_unique<RecordingCache>(plain.preset->make(settings), shape,
                                                settings.limits.max_tokens, queries, 0);
  Recording const& recorded = cache->recording();
  Run run = engine_.make_run(std::move(cache));
  run.prefill(text);
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int head = 0; head < shape.query_heads; ++head) {
      scores_[static_cast<std::size_t>(layer)].add(last_weights(recorded, layer, head), queries);
    }
    done((layer + 1.0) / shape.layers);
  }
}

std::vector<float> OqMeasurement::shares() const {
  auto const heads = static_cast<std::size_t>(engine_.shape().kv_heads);
  std::vector<float> shares;
  for (float const ratio : kvfreeze::OqScore::ratios(scores_)) {
    shares.insert(shares.end(), heads, ratio);
  }
  return shares;
}

}  // namespace llama
