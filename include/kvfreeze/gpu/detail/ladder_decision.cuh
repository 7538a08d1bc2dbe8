#pragma once

#include <kvfreeze/detail/ladder_cost.hpp>
#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/page_plan.cuh>
#include <kvfreeze/gpu/detail/rank_cuts.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The cuts, and whether everything is wanted exact. By one thread. @see host::step_ladder
template <class C>
__device__ void decide(LadderLane<C> const& l, CumulativeHistogram const& masses) {
  LaneState& lane = l.state();
  LadderStorage& shared = l.shared;
  LaneFacts facts = lane_facts(l.ref, l.step.layer, l.where.head, l.where.step);
  RungCuts cuts;
  if constexpr (C::by_rank) {
    cuts = shared.cuts;  // made before, by all threads
  } else {
    cuts = find_cuts<C::levels>(masses, l.scheduler.rungs(facts));
  }
  if (lane.mode == LaneMode::looks) {
    RungCuts counted = cuts;
    counted.least[0] = max(counted.least[0], 1U);  // rows that do not take part have no mass
    RungCounts const counts = count_rungs<C::levels>(masses, counted);
    int compact = 0;
    for (int level = 0; level < C::levels; ++level) {
      compact += counts.compact[level];
    }
    lane.ladder_cost = kvfreeze::detail::ladder_cost(
        facts.granules, facts.protected_granules + counts.exact / C::span, compact / C::span,
        facts.page_tokens);
    lane.next_look = kvfreeze::detail::next_look(lane.rows, C::Digest::group_rows);
    facts.ladder_cost = lane.ladder_cost;
  }
  shared.everything = l.scheduler.recall(facts).kind == Selection::Kind::all;
  bool const rests = shared.everything && (lane.slots == lane.rows || l.step.pass == Pass::look);
  lane.mode = rests ? LaneMode::dense : LaneMode::ranked;
  if (shared.everything) {
    for (int level = 0; level <= C::levels; ++level) {
      cuts.least[level] = 0;
    }
  }
  shared.cuts = cuts;
  shared.facts = facts;
  shared.missed = 0;
  shared.exact = 0;
  shared.outranked = false;
}

/// @brief Under a byte cap: what each level of the water asks for, and cuts that ask for no more
/// pages than the lane's aim. By one warp. @see host::note_ladder_demand, host::fit_cuts
///
/// Where cuts are ranks only the water level is found: `facts` has it then, and `outranked` is set.
template <class C>
__device__ void meet_aim(LadderLane<C> const& l, CumulativeHistogram const& masses) {
  static_assert(host::water_levels == 32, "a thread each");
  Geometry const& g = *l.ref.geometry;
  LaneState& lane = l.state();
  LadderStorage& shared = l.shared;
  auto const thread = static_cast<int>(threadIdx.x);
  LaneFacts facts = shared.facts;
  int const protect = facts.protected_granules * C::span;
  std::uint32_t now = 0;
  std::uint32_t demand = 0;
  RungCuts raised;
  if constexpr (C::by_rank) {
    auto const pages_of = [&] {
      int const open = max(facts.granules - facts.protected_granules, 0);
      return wished_pages<C>(g, count_ranks<C>(l.scheduler.rungs(facts), open), protect);
    };
    now = pages_of();
    facts.water_level = g.levels[thread];
    demand = pages_of();
  } else {
    auto const pages_at = [&](RungCuts cuts) {
      cuts.least[0] = max(cuts.least[0], 1U);  // rows that do not take part have no mass
      return wished_pages<C>(g, count_rungs<C::levels>(masses, cuts), protect);
    };
    now = pages_at(shared.cuts);
    facts.water_level = g.levels[thread];
    raised = find_cuts<C::levels>(masses, l.scheduler.rungs(facts));
    demand = pages_at(raised);
  }
  lane.demand[thread] = demand;
  // Room for the rows to come stays free.
  std::uint32_t const beside = digest_pages<C>(g, lane.rows) + 1U;
  std::uint32_t const usable = lane.aim - min(lane.aim, beside);
  if (now <= usable) {
    return;
  }
  unsigned const fits = __ballot_sync(0xFFFFFFFFU, demand <= usable);
  __syncwarp();  // all have read the cuts
  int const level = fits != 0 ? __ffs(static_cast<int>(fits)) - 1 : host::water_levels - 1;
  if (thread == level) {
    if constexpr (C::by_rank) {
      shared.facts = facts;
      shared.outranked = true;
    } else {
      shared.cuts = raised;
    }
    lane.over_cap = true;
  }
}

/// @brief Before a chunk's queries vote, no exact row counts as needed. @see host::settle_chunk
template <class C>
__device__ void forget_stamps(LadderLane<C> const& l) {
  auto const stamp = static_cast<std::uint16_t>(l.where.step - 1U);
  for (int i = static_cast<int>(threadIdx.x); i < l.state().slots; i += l.threads) {
    l.ref.record(static_cast<std::uint32_t>(i)).stamp = stamp;
  }
}

/// @brief Notes on each exact slot that this step needs it. @see host::stamp_needed
template <class C>
__device__ void stamp_needed(LadderLane<C> const& l) {
  auto const stamp = static_cast<std::uint16_t>(l.where.step);
  std::uint32_t const least =
      l.shared.cuts.needed(l.exact_level, kvfreeze::detail::hysteresis(l.scheduler));
  l.for_each_four(l.runs().rows[LaneRuns::exact], [&](int first, int n) {
    Mass masses[4];
    l.masses(LaneRuns::exact, first, n, masses);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j < n && masses[j] >= least) {
        l.ref.record(static_cast<std::uint32_t>(first + j)).stamp = stamp;
      }
    }
  });
}

}  // namespace kvfreeze::gpu::detail
