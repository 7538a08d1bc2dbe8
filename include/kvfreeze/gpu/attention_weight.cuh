#pragma once

#include <kvfreeze/gpu/detail/exp2.cuh>

namespace kvfreeze::gpu {

/// @brief A row's final weight under one query head, in [0, 1]: what attention's logits and
/// log-sum-exp say of it afterwards. The operations of host::observe_lane, none contracted.
/// @param logit octaves; minus infinity weighs 0
/// @param lse natural; minus infinity where there are no rows
__device__ inline float attention_weight(float logit, float lse) {
  constexpr float octaves = 1.44269504088896340736F;
  float const above = __fsub_rn(logit, __fmul_rn(lse, octaves));
  return above > -126.0F ? detail::exp2_at_most_one(fminf(above, 0.0F)) : 0.0F;
}

}  // namespace kvfreeze::gpu
