#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/retain_rows.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What the scheduler does not retain freezes. One block a lane, one launch for the whole
/// model. @see host::retain_lane
/// @param steps [max_sequences] finished steps; this one is the next
template <class C>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    retain_threads) void retain_rows_kernel(Geometry g, CacheMemory memory,
                                            typename C::Scheduler scheduler,
                                            typename C::Scorer scorer, std::uint32_t const* batch,
                                            std::uint32_t const* steps) {
  __shared__ RetainRowsStorage shared;
  std::uint32_t const sequence = batch[blockIdx.y];
  std::uint32_t const step = steps[sequence];
  auto const period = static_cast<std::uint32_t>(max(kvfreeze::detail::slow_period(scheduler), 1));
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  auto const open = ref.open_range();
  if (step % period != 0 || open.low == open.high) {
    return;
  }
  auto const index = static_cast<int>(blockIdx.x);
  LaneFacts const facts =
      lane_facts(ref, index / g.lanes_per_layer, index % g.lanes_per_layer, step);
  Selection const selection = kvfreeze::detail::as_count(
      kvfreeze::detail::among_open(scheduler.retain(facts), facts.protected_granules),
      open.high - open.low);
  if (!C::sleeps && selection.kind == Selection::Kind::all) {
    return;
  }
  RetainRows<C> const rows{ref, scheduler, scorer, step, open, shared};
  rows.mark(selection);
  if constexpr (C::sleeps) {
    rows.count_detections();
  }
  int const frozen = rows.freeze();
  if (threadIdx.x == 0) {
    ref.lane->slots -= frozen;
    ref.lane->frozen += static_cast<std::uint32_t>(frozen);
    ref.lane->evicted += C::discards ? frozen : 0;
    shrink(ref, memory.pool, rows_segment, placed_granules<C>(*ref.lane) + 1);
  }
  if constexpr (C::discards) {  // rows that stood for others may have moved
    __syncthreads();
    find_tail<C, retain_threads>(ref);
  }
}

}  // namespace kvfreeze::gpu::detail
