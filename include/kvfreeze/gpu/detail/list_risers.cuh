#pragma once

#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Level that a granule rises to from level `here`; 0: it stays.
template <class C>
__device__ int riser_level(RungCuts const& cuts, std::uint8_t state, Mass mass, int here) {
  constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
  if ((state & must) != 0) {
    return C::levels + 1;
  }
  if constexpr (!C::rises) {
    return 0;
  }
  int const level = cuts.level(mass);
  return level > here ? level : 0;
}

/// @brief Lists the granules that rise, frozen ones first, each with the level that it rises to;
/// and sums the masses of all frozen ones.
/// @return how many rise
template <class C>
__device__ int list_risers(LadderLane<C> const& l) {
  using List = RankedList<LadderLane<C>::threads>;
  RungCuts const& cuts = l.shared.cuts;
  auto const push = [&](std::uint32_t granule, int level, bool from_pool, int rank) {
    l.riser(rank) = {granule, static_cast<std::uint32_t>(level), from_pool ? 1U : 0U};
  };
  std::uint64_t frozen = 0;
  int risers = List::for_each(
      l.runs().rows[LaneRuns::digests], 0, l.shared.list,
      [&](int first, int n) {
        std::uint32_t const states = load_four(l.ref.states + first, n);
        Mass masses[4];
        l.masses(LaneRuns::digests, first, n, masses);
        unsigned rise = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          auto const state = static_cast<std::uint8_t>(byte_of(states, j));
          if (j < n && is_frozen(state)) {
            frozen += masses[j];
            rise |= riser_level<C>(cuts, state, masses[j], 0) > 0 ? 1U << j : 0U;
          }
        }
        return rise;
      },
      [&](int i, int rank) {
        int const level = riser_level<C>(cuts, l.ref.states[i], l.mass(LaneRuns::digests, i), 0);
        push(static_cast<std::uint32_t>(i), level, false, rank);
      });
  frozen = warp_sum(frozen);
  if (threadIdx.x % 32 == 0) {
    atomicAdd(&l.shared.missed, static_cast<unsigned long long>(frozen));
  }
  // Without a row that must be exact there is no need for the states of compact ones, which lie
  // anywhere.
  bool const asks = l.state().forced != 0 || l.ref.pins[0] != 0;
  auto const state_of = [&](std::uint32_t granule) {
    return asks ? l.ref.states[granule] : std::uint8_t{0};
  };
  for (int level = 0; level < C::levels; ++level) {
    int const run = LaneRuns::pool(level);
    risers = List::for_each(
        l.runs().rows[run], risers, l.shared.list,
        [&](int first, int n) {
          std::uint32_t granules[4] = {};
          if (asks) {
            l.coded(level, first, n, granules);
          }
          Mass masses[4];
          l.masses(run, first, n, masses);
          unsigned rise = 0;
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            bool const rises =
                j < n && riser_level<C>(cuts, state_of(granules[j]), masses[j], level + 1) > 0;
            rise |= rises ? 1U << j : 0U;
          }
          return rise;
        },
        [&](int i, int rank) {
          std::uint32_t const granule = l.coded(level, i);
          Mass const mass = l.mass(run, i);
          push(granule, riser_level<C>(cuts, state_of(granule), mass, level + 1), true, rank);
          l.runs().masses[granule] = mass;  // for the order of what must wait
          l.code_place(granule) = {static_cast<std::uint32_t>(i),
                                   static_cast<std::uint32_t>(level)};
        });
  }
  return risers;
}

}  // namespace kvfreeze::gpu::detail
