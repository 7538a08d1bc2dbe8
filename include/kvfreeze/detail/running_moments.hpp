#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>

namespace kvfreeze::detail {

/// @brief Mean and variance of a signal, exponentially weighted, arithmetic at first.
///
/// The n-th value has weight max(1/n, 1 - decay), so the first value is no anchor: until 1/(1 -
/// decay) values these are the plain mean and (population) variance. The variance follows West's
/// recurrence σ² ← (1 - w)(σ² + w·(x - μ)²).
struct RunningMoments {
  float mean = 0.0F;      ///< μ, in the signal's unit
  float variance = 0.0F;  ///< σ²
  int seen = 0;           ///< values, counted up to 2^24

  KVFREEZE_HD void learn(float value, float decay) noexcept {
    if (seen < (1 << 24)) {
      ++seen;
    }
    float const first = quotient(1.0F, static_cast<float>(seen));
    float const steady = 1.0F - decay;
    float const weight = first > steady ? first : steady;
    float const rise = value - mean;
    mean = fused(weight, rise, mean);
    variance = (1.0F - weight) * fused(weight * rise, rise, variance);
  }

  /// rise > sigmas * σ, for rise >= 0; without a square root.
  KVFREEZE_HD constexpr bool beyond(float rise, float sigmas) const noexcept {
    return rise * rise > sigmas * sigmas * variance;
  }
};

}  // namespace kvfreeze::detail
