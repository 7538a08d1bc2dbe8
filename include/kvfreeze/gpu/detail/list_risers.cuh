#pragma once

#include <kvfreeze/gpu/detail/ladder_lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Level that a granule rises to from level `here`; 0: it stays.
template <class C>
__device__ int riser_level(RungCuts const& cuts, std::uint8_t state, Mass mass, int here) {
  constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
  if ((state & must) != 0) {
    return C::levels + 1;
  }
  int const level = cuts.level(mass);
  return level > here ? level : 0;
}

/// @brief Lists the granules that rise, frozen ones first, each with the level that it rises to.
/// @return how many
template <class C>
__device__ int list_risers(LadderLane<C> const& l) {
  using List = RankedList<LadderLane<C>::threads>;
  RungCuts const& cuts = l.shared.cuts;
  auto const push = [&](std::uint32_t granule, int level, bool from_pool, int rank) {
    l.riser(rank) = {granule, static_cast<std::uint32_t>(level), from_pool ? 1U : 0U};
  };
  auto const frozen_level = [&](int granule) {
    std::uint8_t const state = l.ref.states[granule];
    return is_frozen(state) ? riser_level<C>(cuts, state, l.mass(LaneRuns::digests, granule), 0)
                            : 0;
  };
  int risers = List::for_each(
      l.runs().rows[LaneRuns::digests], 0, l.shared.list,
      [&](int i) { return frozen_level(i) > 0; },
      [&](int i, int rank) { push(static_cast<std::uint32_t>(i), frozen_level(i), false, rank); });
  for (int level = 0; level < C::levels; ++level) {
    int const run = LaneRuns::pool(level);
    auto const code_level = [&](int i) {
      return riser_level<C>(cuts, l.ref.states[l.coded(level, i)], l.mass(run, i), level + 1);
    };
    risers = List::for_each(
        l.runs().rows[run], risers, l.shared.list, [&](int i) { return code_level(i) > 0; },
        [&](int i, int rank) { push(l.coded(level, i), code_level(i), true, rank); });
  }
  return risers;
}

}  // namespace kvfreeze::gpu::detail
