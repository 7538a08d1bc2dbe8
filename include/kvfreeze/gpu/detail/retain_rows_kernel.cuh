#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/retain_rows.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What the scheduler does not retain freezes; under a byte cap also what the lane's budget
/// does not hold beside the rows to come. By one block. @see host::retain_lane,
/// host::yield_by_score
/// @param index of the lane in its sequence
/// @param tokens to come
/// @param due is it the scheduler's turn in any case?
template <class C>
__device__ void retain_lane(LaneRef<C> const& ref, typename C::Scheduler const& scheduler,
                            typename C::Scorer const& scorer, int index, std::uint32_t step,
                            int tokens, bool due, RetainRowsStorage& shared) {
  Geometry const& g = *ref.geometry;
  auto const open = ref.open_range();
  LaneFacts facts = lane_facts(ref, index / g.lanes_per_layer, index % g.lanes_per_layer, step);
  bool const capped = ref.lane->budget != no_limit;
  if (capped) {
    int const rows = ref.lane->rows + tokens;
    facts.allowed =
        allowed_slots<C>(g, ref.lane->budget, rows) - max(granules_of<C>(rows) - ref.granules(), 1);
    // Not where detections are counted, nor where recall has met the cap.
    due = due || (facts.exact > facts.allowed && !C::sleeps &&
                  !(kvfreeze::detail::base_level(scheduler) > 0.0F));
  }
  if (due && open.low < open.high) {
    Selection const selection = kvfreeze::detail::as_count(
        kvfreeze::detail::among_open(scheduler.retain(facts), facts.protected_granules),
        open.high - open.low);
    if (C::sleeps || selection.kind != Selection::Kind::all) {
      RetainRows<C> const rows{ref, scheduler, scorer, step, open, shared};
      rows.mark(selection);
      if constexpr (C::sleeps) {
        rows.count_detections();
      }
      rows.freeze();
    }
  }
  if (capped) {
    make_room<C, retain_threads>(ref, ref.lane->slots - facts.allowed, step, shared.partition,
                                 [](std::uint32_t) { return true; });
  }
}

/// @brief The slow clock of the batch's lanes, or a layer's lanes make way for a chunk. Grid
/// (lanes, sequences). In a launch that takes no pages.
/// @param steps [max_sequences] finished steps; this one is the next
/// @param first_lane of the launch
/// @param tokens to come
/// @param asks may it be the scheduler's turn?
template <class C>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    retain_threads) void retain_rows_kernel(Geometry g, CacheMemory memory,
                                            typename C::Scheduler scheduler,
                                            typename C::Scorer scorer, std::uint32_t const* batch,
                                            std::uint32_t const* steps, int first_lane, int tokens,
                                            bool asks) {
  __shared__ RetainRowsStorage shared;
  std::uint32_t const sequence = batch[blockIdx.y];
  std::uint32_t const step = steps[sequence];
  auto const period = static_cast<std::uint32_t>(max(kvfreeze::detail::slow_period(scheduler), 1));
  int const index = first_lane + static_cast<int>(blockIdx.x);
  LaneRef<C> const ref(g, memory, sequence, static_cast<std::uint32_t>(index));
  bool const due = asks && step % period == 0;
  if (!due && ref.lane->budget == no_limit) {
    return;
  }
  retain_lane(ref, scheduler, scorer, index, step, tokens, due, shared);
  if (threadIdx.x == 0) {
    shrink(ref, memory.pool, rows_segment, placed_granules<C>(*ref.lane) + 1);
  }
  if constexpr (C::discards) {  // rows that stand for others may have moved, or just come
    __syncthreads();
    find_tail<C, retain_threads>(ref);
  }
}

}  // namespace kvfreeze::gpu::detail
