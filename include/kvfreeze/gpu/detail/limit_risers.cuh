#pragma once

#include <kvfreeze/gpu/detail/kth_key.cuh>
#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/detail/page_plan.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// How many of the risers that are listed the lane's pages and its part of the transfers hold. By
/// one thread.
/// @param levels how many of them rise to each level
template <class C>
__device__ int affordable_risers(LadderLane<C> const& l, int asked, int const* levels) {
  Geometry const& g = *l.ref.geometry;
  LaneState const& lane = l.state();
  auto most = static_cast<std::uint32_t>(asked);
  if (lane.budget != no_limit) {
    std::int32_t codes[most_levels] = {};
    for (int level = 0; level < C::levels; ++level) {
      codes[level] = lane.codes[level] + levels[level + 1];
    }
    std::uint32_t const digests = digest_pages<C>(g, lane.rows);
    std::uint32_t const all = row_pages(g, lane.slots + asked) + code_pages<C>(g, codes) + digests;
    if (all > lane.budget) {
      // A page more for each level is kept for the codes that guests become.
      std::uint32_t const beside = digests + code_pages<C>(g, lane.codes) + C::levels;
      std::uint32_t const rows = (lane.budget - min(lane.budget, beside)) * page_rows;
      std::uint32_t const held = static_cast<std::uint32_t>(lane.slots) + 1U;
      most = min(most, rows - min(rows, held));
    }
  }
  most = min(most, lane.allotment);
  return static_cast<int>(most - most % C::span);
}

/// @brief Risers whose rows are not in pinned memory get level 0: they are fetched, and first in
/// line at the next step.
/// @return how many are there
template <class C>
__device__ int risers_here(LadderLane<C> const& l, int asked) {
  if constexpr (C::spills) {
    constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
    for (int i = static_cast<int>(threadIdx.x); i < asked; i += l.threads) {
      std::uint32_t const granule = l.riser(i).granule;
      if ((l.ref.states[granule] & must) != 0) {
        static_cast<void>(l.ref.is_here(granule, true));  // before others of its block ask
      }
    }
    __syncthreads();
    int here = 0;
    for (int first = 0; first < asked; first += l.threads) {
      int const i = first + static_cast<int>(threadIdx.x);
      bool const is_here = i < asked && l.ref.is_here(l.riser(i).granule);
      if (i < asked && !is_here) {
        Riser& r = l.riser(i);
        l.ref.states[r.granule] |= host::GranuleState::carried;
        r.level = 0;
      }
      here += __syncthreads_count(is_here ? 1 : 0);
    }
    if (threadIdx.x == 0) {
      l.state().deferred += static_cast<std::uint32_t>(asked - here);
    }
    return here;
  } else {
    return asked;
  }
}

/// @brief Keeps the risers that the lane can afford: forced and pinned ones, then those carried
/// over, then frozen ones by mass, then those of the pools. The others get level 0 and are first in
/// line at the next step. @see host::limit_risers
/// @param here those of them whose level is not 0
/// @return how many rise
template <class C>
__device__ int limit_risers(LadderLane<C> const& l, int asked, int here) {
  LaneState& lane = l.state();
  LadderStorage& shared = l.shared;
  if (lane.budget == no_limit && lane.allotment == no_limit) {
    return here;
  }
  if (threadIdx.x < LadderStorage::most_counts) {
    shared.counts[threadIdx.x] = 0;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < asked; i += l.threads) {
    atomicAdd(&shared.counts[l.riser(i).level], 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.most = affordable_risers(l, here, shared.counts);
  }
  __syncthreads();
  int const most = shared.most;
  if (most >= here) {
    return here;
  }
  constexpr std::uint64_t waits = 1ULL << 58;  // whatever else is said of it
  auto const key = [&](int i) {
    Riser const r = l.riser(i);
    std::uint8_t const state = l.ref.states[r.granule];
    constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
    std::uint64_t const first = (state & must) != 0                          ? 0
                                : (state & host::GranuleState::carried) != 0 ? 1
                                : r.from_pool == 0                           ? 2
                                                                             : 3;
    Mass const mass = l.mass(LaneRuns::digests, static_cast<int>(r.granule));
    return (C::spills && r.level == 0 ? waits : first << 56) |
           static_cast<std::uint64_t>(~mass) << 24 | r.granule;
  };
  constexpr int bits = C::spills ? 59 : 58;
  std::uint64_t const last = most > 0 ? kth_key<LadderLane<C>::threads, bits>(asked, most, key) : 0;
  for (int i = static_cast<int>(threadIdx.x); i < asked; i += l.threads) {
    if (most == 0 || key(i) > last) {
      Riser& r = l.riser(i);
      l.ref.states[r.granule] |= host::GranuleState::carried;
      r.level = 0;
    }
  }
  if (threadIdx.x == 0) {
    lane.deferred += static_cast<std::uint32_t>(here - most);
    lane.over_cap = lane.over_cap || static_cast<std::uint32_t>(most) < lane.allotment;
  }
  __syncthreads();
  return most;
}

}  // namespace kvfreeze::gpu::detail
