#pragma once

#include <kvfreeze/gpu/detail/ladder_lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What was not needed at its level for so many steps will sink to the level of its mass.
/// @param stay 1: whatever this step does not need
/// @see host::sink
template <class C>
__device__ void plan_sinking(LadderLane<C> const& l, int stay) {
  LaneRef<C> const& ref = l.ref;
  LaneRuns const& runs = l.runs();
  RungCuts const& cuts = l.shared.cuts;
  auto const limit = static_cast<std::uint16_t>(max(stay, 1));
  auto const is_old = [&](std::uint16_t stamp) {
    return static_cast<std::uint16_t>(l.where.step - stamp) >= limit;
  };
  for (int level = 0; level < C::levels; ++level) {
    int const run = LaneRuns::pool(level);
    for (int i = static_cast<int>(threadIdx.x); i < runs.rows[run]; i += l.threads) {
      std::uint32_t const granule = l.coded(level, i);
      if (ref.plans[granule] == 0 && is_old(ref.code_stamp(level, static_cast<std::uint32_t>(i)))) {
        int const to = cuts.level(l.mass(run, i));
        if (to <= level) {
          ref.plans[granule] = static_cast<std::uint8_t>(Plan::leaves_pool | Plan::to(to));
        }
      }
    }
  }
  auto const open = ref.open_range();
  for (int i = static_cast<int>(threadIdx.x); i < runs.rows[LaneRuns::exact]; i += l.threads) {
    host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
    auto const granule = static_cast<int>(record.granule);
    bool const may_go = granule >= open.low && granule < open.high &&
                        (ref.states[granule] & host::GranuleState::pinned) == 0;
    if (may_go && is_old(record.stamp)) {
      int const to = cuts.level(l.mass(LaneRuns::exact, i));
      if (to != l.exact_level) {
        ref.plans[granule] = Plan::to(to);
      }
    }
  }
}

}  // namespace kvfreeze::gpu::detail
