#pragma once

#include <kvfreeze/gpu/detail/lane_barrier.cuh>
#include <kvfreeze/gpu/detail/lane_entropy.cuh>
#include <kvfreeze/gpu/detail/lane_masses.cuh>
#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Logits of the rows that attention saw, in slot order, become masses and evidence, where
/// there are no digests; their entropy goes into the lane's mean, if anybody asks for it. Grid
/// (blocks of a lane, lanes). Where a lane has several blocks, all of them must be resident.
/// Dynamic shared memory: a HeadScale for each head. @see host::note_masses
/// @param barriers [work lane], 0 before the first launch
template <class C>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads, 2) void note_masses_kernel(__grid_constant__ AttendedRows<C> const lanes,
                                             __grid_constant__ MassPlan const plan,
                                             typename C::Scorer scorer, std::uint32_t* barriers) {
  extern __shared__ HeadScale scales[];
  __shared__ LaneTiles tiles;
  __shared__ MassStorage storage;
  int const work = static_cast<int>(blockIdx.y);
  tiles.load(lanes, work);
  LanePlace const place = place_in_grid(tiles);
  if (place.block >= place.blocks) {
    return;
  }
  LaneBarrier const barrier = lane_barrier(barriers, place);
  find_largest(tiles, plan, place, storage);
  barrier.meet();
  sum_weights(tiles, plan, place, storage);
  barrier.meet();
  find_scales(plan, place, scales);
  __syncthreads();
  make_masses<false>(tiles, plan, place, scales, nullptr);
  barrier.meet();
  WorkLane const where(lanes.geometry, lanes.step, work);
  LaneRef<C> const ref(lanes.geometry, lanes.memory, where.sequence, where.lane);
  Mass const* const masses = tiles.run(0).masses;
  int const first = place.block * rank_threads + static_cast<int>(threadIdx.x);
  for (int i = first; i < ref.lane->slots; i += place.blocks * rank_threads) {
    host::SlotRecord& record = ref.record(static_cast<std::uint32_t>(i));
    record.value = from_float<BFloat16>(mass_of(masses[i])).bits;
    update_score(ref, scorer, record.granule, where.step, masses[i]);
  }
  if (C::needs_entropy && first == 0) {
    note_entropy(ref, plan.entropies[work]);
  }
}

}  // namespace kvfreeze::gpu::detail
