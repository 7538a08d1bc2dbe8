// An attention kernel that knows nothing of kvfreeze: plain pointers in, plain pointers out.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

/// One head over `rows` keys and values of `dim` floats; returns the log-sum-exp.
inline float foreign_attention(float const* q, float const* k, float const* v, int rows, int dim,
                               float* out) {
  std::vector<float> weight(static_cast<std::size_t>(rows));
  float largest = -INFINITY;
  for (int i = 0; i < rows; ++i) {
    float dot = 0.0F;
    for (int d = 0; d < dim; ++d) {
      dot += q[d] * k[i * dim + d];
    }
    weight[static_cast<std::size_t>(i)] = dot / std::sqrt(static_cast<float>(dim));
    largest = std::max(largest, weight[static_cast<std::size_t>(i)]);
  }
  float sum = 0.0F;
  std::fill(out, out + dim, 0.0F);
  for (int i = 0; i < rows; ++i) {
    float const w = std::exp(weight[static_cast<std::size_t>(i)] - largest);
    sum += w;
    for (int d = 0; d < dim; ++d) {
      out[d] += w * v[i * dim + d];
    }
  }
  std::for_each(out, out + dim, [sum](float& x) { x /= sum; });
  return largest + std::log(sum);
}
