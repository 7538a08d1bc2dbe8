#pragma once

/// @file
/// @brief The cache that every other one is compared with: keeps all rows, computes in double.

#include <kvfreeze/element.hpp>
#include <kvfreeze/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace kvfreeze_test {

/// Rows of one sequence as they were appended, rounded to elements of type T.
template <kvfreeze::Element T>
class ReferenceCache {
 public:
  explicit ReferenceCache(kvfreeze::Shape const& shape)
      : shape_(shape), layers_(static_cast<std::size_t>(shape.layers)) {}

  /// @param k, v [tokens][kv_heads][head_dim]
  void append(int layer, std::span<float const> k, std::span<float const> v) {
    auto const convert = [](float x) { return kvfreeze::from_float<T>(x); };
    Layer& rows = layers_[static_cast<std::size_t>(layer)];
    std::transform(k.begin(), k.end(), std::back_inserter(rows.k), convert);
    std::transform(v.begin(), v.end(), std::back_inserter(rows.v), convert);
  }

  void truncate(int length) {
    for (Layer& rows : layers_) {
      rows.k.resize(static_cast<std::size_t>(length) * width());
      rows.v.resize(static_cast<std::size_t>(length) * width());
    }
  }

  [[nodiscard]] int length(int layer = 0) const {
    return static_cast<int>(layers_[static_cast<std::size_t>(layer)].k.size() / width());
  }

  [[nodiscard]] T const* k(int layer, int head, int position) const {
    return layers_[static_cast<std::size_t>(layer)].k.data() + offset(head, position);
  }

  [[nodiscard]] T const* v(int layer, int head, int position) const {
    return layers_[static_cast<std::size_t>(layer)].v.data() + offset(head, position);
  }

  /// q.k times the model's scale.
  [[nodiscard]] double logit(int layer, int head, int position, float const* q) const {
    return logit(k(layer, head, position), q);
  }

  template <kvfreeze::Element E>
  [[nodiscard]] double logit(E const* key, float const* q) const {
    double const scale = shape_.scale > 0.0F ? shape_.scale : 1.0 / std::sqrt(shape_.head_dim);
    double sum = 0.0;
    for (int d = 0; d < shape_.head_dim; ++d) {
      sum += static_cast<double>(q[d]) * static_cast<double>(kvfreeze::to_float(key[d]));
    }
    return sum * scale;
  }

  /// @brief Attention of one query head of KV head `head` over the rows at `positions`.
  [[nodiscard]] std::vector<double> attention(int layer, int head, float const* q,
                                              std::span<int const> positions) const {
    std::vector<double> weights;
    for (int const position : positions) {
      weights.push_back(logit(layer, head, position, q));
    }
    double const highest = *std::max_element(weights.begin(), weights.end());
    double sum = 0.0;
    for (double& weight : weights) {
      sum += weight = std::exp(weight - highest);
    }
    std::vector<double> out(static_cast<std::size_t>(shape_.head_dim));
    for (std::size_t i = 0; i < positions.size(); ++i) {
      for (std::size_t d = 0; d < out.size(); ++d) {
        out[d] += weights[i] / sum *
                  static_cast<double>(kvfreeze::to_float(v(layer, head, positions[i])[d]));
      }
    }
    return out;
  }

 private:
  struct Layer {
    std::vector<T> k, v;
  };

  [[nodiscard]] std::size_t width() const {
    return static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim);
  }

  [[nodiscard]] std::size_t offset(int head, int position) const {
    return static_cast<std::size_t>(position) * width() +
           static_cast<std::size_t>(head * shape_.head_dim);
  }

  kvfreeze::Shape shape_;
  std::vector<Layer> layers_;
};

}  // namespace kvfreeze_test
