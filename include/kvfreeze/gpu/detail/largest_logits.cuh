#pragma once

#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/gpu/detail/warp_scan.cuh>
#include <kvfreeze/gpu/logit_run.cuh>

#include <cstddef>
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

/// @brief A thread's note of a scan: the largest logits of the frozen rows, which are those that
/// take part in the softmax.
class LargestFrozen {
 public:
  /// @param states of the lane's rows
  __device__ LargestFrozen(std::uint8_t const* states, LargestLogits& all)
      : states_(states), all_(all) {
    clear();
  }

  __device__ void group(std::size_t row) { group_ = states_ + row; }

  __device__ void look(int row) {
    std::uint8_t const* const two = group_ + row + threadIdx.x % 32 * 2;
    first_ = two[0];
    second_ = two[1];
  }

  __device__ void decide() {
    unsigned const even = __ballot_sync(warp_mask, takes_part(first_));
    unsigned const odd = __ballot_sync(warp_mask, takes_part(second_));
    even_ = even >> (threadIdx.x % 32 / 4);
    odd_ = odd >> (threadIdx.x % 32 / 4);
  }

  __device__ void pair(int slot, int block, float a, float b) {
    add(slot, ((even_ >> (8 * block)) & 1U) != 0, a);
    add(slot, ((odd_ >> (8 * block)) & 1U) != 0, b);
  }

  __device__ void one(int slot, int row, float logit) { add(slot, takes_part(group_[row]), logit); }

  template <class Scan>
  __device__ void close(int head, int some) {
#pragma unroll
    for (int slot = 0; slot < most_scan_slots; ++slot) {
      int const h = Scan::head_of(slot);
      if (h < some) {
        all_.note(head + h, largest_[slot]);
      }
    }
    clear();
  }

 private:
  static __device__ bool takes_part(std::uint32_t state) {
    return (state & LogitRun::state_bits) == LogitRun::taking_part;
  }

  __device__ void clear() {
#pragma unroll
    for (float& x : largest_) {
      x = minus_infinity();
    }
  }

  __device__ void add(int slot, bool counts, float logit) {
    largest_[slot] = fmaxf(largest_[slot], counts ? logit : minus_infinity());
  }

  std::uint8_t const* states_;
  std::uint8_t const* group_ = nullptr;
  LargestLogits& all_;
  std::uint32_t first_ = 0;
  std::uint32_t second_ = 0;
  unsigned even_ = 0;
  unsigned odd_ = 0;
  float largest_[most_scan_slots];
};

}  // namespace kvfreeze::gpu::detail
