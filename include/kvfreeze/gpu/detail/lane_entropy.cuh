#pragma once

/// @file
/// @brief Entropies of the lanes' attention, for shares by them.

#include <kvfreeze/detail/mass_entropy.hpp>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/gpu/detail/step.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Takes the entropy of a lane's attention into its running mean. By one thread, when nobody
/// asks for the mean before this step any more. @see host::note_entropy
/// @param sum MassResults::entropies
template <class C>
__device__ void note_entropy(LaneRef<C> const& ref, unsigned long long sum) {
  LaneState& lane = *ref.lane;
  lane.entropies = min(lane.entropies + 1U, host::LaneEntropy::most);
  float const bits = kvfreeze::detail::entropy_bits(sum);
  lane.entropy =
      kvfreeze::detail::running_mean(lane.entropy, __fsub_rn(bits, lane.entropy), lane.entropies);
}

/// @brief The same for each lane of a step, of the estimates of all its rows. A thread a lane.
/// @param sums [work lane]
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void note_entropy_kernel(Geometry g, CacheMemory memory, LayerStep<C> s,
                                      unsigned long long const* sums) {
  auto const work = static_cast<int>(blockIdx.x * Threads + threadIdx.x);
  if (work >= s.lanes) {
    return;
  }
  WorkLane const where(g, s, work);
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  if (ref.lane->mode != LaneMode::dense) {  // else nothing was estimated
    note_entropy(ref, sums[work]);
  }
}

/// @brief The mean of the entropies of a sequence's lanes, summed in their order. One block a
/// sequence of the batch. @see host::note_lane_entropy
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void mean_entropy_kernel(Geometry g, CacheMemory memory, std::uint32_t const* batch) {
  __shared__ float entropies[Threads];
  std::uint32_t const sequence = batch[blockIdx.x];
  LaneState const* const lanes =
      memory.lanes + static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.lanes);
  auto const thread = static_cast<int>(threadIdx.x);
  float sum = 0.0F;  // of thread 0
  for (int first = 0; first < g.lanes; first += Threads) {
    int const some = min(Threads, g.lanes - first);
    if (thread < some) {
      entropies[thread] = lanes[first + thread].entropy;
    }
    __syncthreads();
    for (int i = 0; thread == 0 && i < some; ++i) {
      sum = __fadd_rn(sum, entropies[i]);
    }
    __syncthreads();
  }
  if (thread == 0) {
    memory.mean_entropy[sequence] = __fdiv_rn(sum, static_cast<float>(g.lanes));
  }
}

}  // namespace kvfreeze::gpu::detail
