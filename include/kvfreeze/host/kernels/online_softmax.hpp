#pragma once

#include <kvfreeze/host/kernels/exp2.hpp>

#include <limits>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Attention of one query over rows that arrive in pieces. A view: the caller owns the
/// arrays.
struct OnlineSoftmax {
  int heads = 0;         ///< query heads
  int dim = 0;           ///< elements of a head, a multiple of 8
  float* max = nullptr;  ///< [heads]: largest logit so far, octaves
  float* sum = nullptr;  ///< [heads]: sum of 2^(logit - max)
  float* out = nullptr;  ///< [heads][dim]: sum of 2^(logit - max) * v

  /// No rows seen.
  void reset() const noexcept {
    for (int h = 0; h < heads; ++h) {
      max[h] = -std::numeric_limits<float>::infinity();
      sum[h] = 0.0F;
    }
    for (int i = 0; i < heads * dim; ++i) {
      out[i] = 0.0F;
    }
  }

  /// @brief result[heads][dim] = weighted mean of the rows' values; zeros if there were no rows.
  /// @param result may be `out`
  /// @param lse [heads] or null: log-sum-exp in nats, -infinity if there were no rows
  void finish(float* result, float* lse) const noexcept {
    for (int h = 0; h < heads; ++h) {
      float const scale = sum[h] > 0.0F ? 1.0F / sum[h] : 0.0F;
      for (int d = 0; d < dim; ++d) {
        result[h * dim + d] = out[h * dim + d] * scale;
      }
      if (lse != nullptr) {
        constexpr float ln2 = 0.693147182F;
        lse[h] = (max[h] + log2(sum[h])) * ln2;
      }
    }
  }
};

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
