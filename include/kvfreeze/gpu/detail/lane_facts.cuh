#pragma once

#include <kvfreeze/gpu/detail/page_plan.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/scheduler/lane_facts.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What a scheduler is told of a lane, but for its part of the layer's budget.
/// @see host::lane_facts
template <class C>
__device__ LaneFacts facts_but_part(LaneRef<C> const& ref, int layer, int head,
                                    std::uint32_t step) {
  auto const open = ref.open_range();
  LaneFacts facts;
  facts.layer = layer;
  facts.head = head;
  facts.layers = ref.geometry->layers;
  facts.heads = ref.geometry->lanes_per_layer;
  facts.page_tokens = C::page * C::span;
  facts.granules = verdicts_of<C>(ref.granules());
  facts.exact = verdicts_of<C>(ref.lane->slots);
  facts.protected_granules = facts.granules - verdicts_of<C>(open.high - open.low) +
                             ref.pinned_between(open.low, open.high);
  if (ref.lane->budget != no_limit && !C::has_levels) {
    facts.allowed = allowed_slots<C>(*ref.geometry, ref.lane->budget, ref.lane->rows);
  } else if (ref.lane->budget != no_limit) {
    std::uint32_t const beside = digest_pages<C>(*ref.geometry, ref.lane->rows) +
                                 code_pages<C>(*ref.geometry, ref.lane->codes) + 1U;
    std::uint32_t const pages = ref.lane->budget - min(ref.lane->budget, beside);
    facts.allowed = static_cast<std::int32_t>(pages * page_rows / C::span);
  }
  facts.ladder_cost = ref.lane->ladder_cost;
  facts.water_level = ref.lane->water;
  if constexpr (C::needs_entropy) {
    facts.entropy = ref.lane->entropy;
    facts.mean_entropy = *ref.mean_entropy;
  }
  if constexpr (C::needs_sequence_shares) {
    facts.sequence_share = ref.lane->share;
  }
  facts.step = step;
  return facts;
}

/// What a scheduler is told of a lane.
template <class C>
__device__ LaneFacts lane_facts(LaneRef<C> const& ref, int layer, int head, std::uint32_t step) {
  LaneFacts facts = facts_but_part(ref, layer, head, step);
  if constexpr (C::needs_layer_parts) {
    facts.layer_part = ref.lane->layer_part;
  }
  return facts;
}

}  // namespace kvfreeze::gpu::detail
