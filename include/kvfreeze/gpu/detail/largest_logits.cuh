#pragma once

#include <kvfreeze/gpu/detail/softmax_weight.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The largest logit of each of a lane's heads that a block has made, in shared memory.
struct LargestLogits {
  static constexpr int most_heads = 64;

  std::uint32_t keys[most_heads];

  /// By all threads of the block, before the next barrier.
  __device__ void clear() {
    if (threadIdx.x < most_heads) {
      keys[threadIdx.x] = 0;
    }
  }

  /// By any thread. Whatever is not a number counts as nothing.
  __device__ void note(int head, float largest) {
    if (largest > minus_infinity()) {
      atomicMax(&keys[head], logit_key(largest));
    }
  }
};

}  // namespace kvfreeze::gpu::detail
