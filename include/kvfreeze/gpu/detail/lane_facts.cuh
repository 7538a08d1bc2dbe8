#pragma once

#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/scheduler/lane_facts.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What a scheduler is told of a lane. @see host::lane_facts
template <class C>
__device__ LaneFacts lane_facts(LaneRef<C> const& ref, int layer, int head, std::uint32_t step) {
  auto const open = ref.open_range();
  LaneFacts facts;
  facts.layer = layer;
  facts.head = head;
  facts.page_tokens = C::page;
  facts.granules = ref.lane->rows;
  facts.exact = ref.lane->slots;
  facts.protected_granules =
      facts.granules - (open.high - open.low) + ref.pinned_between(open.low, open.high);
  facts.ladder_cost = ref.lane->ladder_cost;
  facts.step = step;
  return facts;
}

}  // namespace kvfreeze::gpu::detail
