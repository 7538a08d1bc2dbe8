#pragma once

#include <kvfreeze/error.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <string>

namespace kvfreeze::host {

/// @brief Joins two attentions of the same queries over different rows: the usual merge by
/// log-sum-exp (FlashAttention; FlashInfer's cascades).
///
/// out = (out_a e^lse_a + out_b e^lse_b) / (e^lse_a + e^lse_b), and lse the logarithm of the
/// divisor. The same either way round. An lse of minus infinity stands for no rows; if neither has
/// any, out is zeros.
/// @param out_a, out_b, out [heads][dim]; `out` may be one of the others
/// @param lse_a, lse_b, lse [heads], natural; `lse` may be one of the others
/// @throws InvalidArgument if the sizes do not fit; nothing was written then
/// @complexity O(heads * dim)
inline void merge(std::span<float const> out_a, std::span<float const> lse_a,
                  std::span<float const> out_b, std::span<float const> lse_b, std::span<float> out,
                  std::span<float> lse) {
  std::size_t const heads = lse.size();
  if (lse_a.size() != heads || lse_b.size() != heads || out_a.size() != out.size() ||
      out_b.size() != out.size() || (heads == 0 ? !out.empty() : out.size() % heads != 0)) {
    throw InvalidArgument("merge(): out_a, out_b and out have " + std::to_string(out_a.size()) +
                          ", " + std::to_string(out_b.size()) + " and " +
                          std::to_string(out.size()) + " elements, lse_a, lse_b and lse " +
                          std::to_string(lse_a.size()) + ", " + std::to_string(lse_b.size()) +
                          " and " + std::to_string(heads) +
                          ": all three must agree, and out must hold as many for each head");
  }
  std::size_t const dim = heads == 0 ? 0 : out.size() / heads;
  for (std::size_t h = 0; h < heads; ++h) {
    float const largest = std::fmax(lse_a[h], lse_b[h]);
    bool const some = largest > -INFINITY;
    float const a = some ? std::exp(lse_a[h] - largest) : 0.0F;
    float const b = some ? std::exp(lse_b[h] - largest) : 0.0F;
    float const share = some ? 1.0F / (a + b) : 0.0F;
    for (std::size_t d = h * dim; d < (h + 1) * dim; ++d) {
      out[d] = (a * out_a[d] + b * out_b[d]) * share;
    }
    lse[h] = some ? largest + std::log(a + b) : -INFINITY;
  }
}

}  // namespace kvfreeze::host
