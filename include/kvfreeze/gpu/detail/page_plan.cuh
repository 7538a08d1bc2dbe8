#pragma once

/// @file
/// @brief Pages under a byte cap: what a lane's rows and codes take, and what each lane may hold.

#include <kvfreeze/gpu/geometry.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/gpu/rung_cuts.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Pages of so many exact granules. One to come has its slot.
KVFREEZE_HD inline std::uint32_t row_pages(Geometry const& g, int exact) noexcept {
  return g.segment[rows_segment].pages_of(static_cast<std::uint32_t>(exact) + 1U);
}

/// Pages of the digests of a lane with so many rows.
template <class C>
KVFREEZE_HD std::uint32_t digest_pages(Geometry const& g, int rows) noexcept {
  constexpr int group_rows = C::has_digest ? C::Digest::group_rows : 1;
  return C::has_digest
             ? g.segment[digests_segment].pages_of(static_cast<std::uint32_t>(rows / group_rows))
             : 0U;
}

/// Tokens of a chunk that finds room under any cap. Where nothing is ranked all of them are exact
/// at first.
template <class C>
inline constexpr int capped_chunk = C::ranks ? host::planned_chunk : 64;

/// Pages with which a lane can take a row or a chunk, whatever it holds of the others: its sinks,
/// its newest rows, its digests; where all rows are coded, their codes.
template <class C>
KVFREEZE_HD std::uint32_t floor_pages(Geometry const& g, int length) noexcept {
  constexpr int tail = C::has_digest ? C::Digest::group_rows : 1;
  int const more = length + capped_chunk<C>;
  int const rows = more < g.max_tokens ? more : g.max_tokens;
  int const newest = (g.window > tail ? g.window : tail) + (C::ranks ? 0 : capped_chunk<C>);
  int const cut = 3 * (C::span - 1);  // granules of both and of what was there before, not whole
  int const exact = granules_of<C>(g.sinks) + granules_of<C>(newest) + 1 + cut;
  int const all = granules_of<C>(rows);
  std::uint32_t const coded =
      C::uniform ? g.segment[pool_segment(0)].pages_of(static_cast<std::uint32_t>(all)) : 0U;
  return row_pages(g, exact < all ? exact : all) + digest_pages<C>(g, rows) + coded;
}

/// @brief Slots for exact granules that a lane's budget leaves beside its digests, where no row is
/// compact. @see host::allowed_granules
/// @param rows of the lane
template <class C>
KVFREEZE_HD std::int32_t allowed_slots(Geometry const& g, std::uint32_t budget, int rows) noexcept {
  std::uint32_t const beside = digest_pages<C>(g, rows);
  std::uint32_t const pages = budget > beside ? budget - beside : 0U;
  return static_cast<std::int32_t>(pages * g.segment[rows_segment].per_page);
}

/// Pages of codes that a lane holds, or would.
template <class C>
KVFREEZE_HD std::uint32_t code_pages(Geometry const& g, std::int32_t const* codes) {
  std::uint32_t pages = 0;
  for (int level = 0; level < C::levels; ++level) {
    pages += g.segment[pool_segment(level)].pages_of(static_cast<std::uint32_t>(codes[level]));
  }
  return pages;
}

/// Pages of rows and codes that the ladder asks for.
/// @param protect protected rows
template <class C>
__device__ std::uint32_t wished_pages(Geometry const& g, RungCounts const& counts, int protect) {
  return row_pages(g, protect + counts.exact) + code_pages<C>(g, counts.compact);
}

/// Pages that a lane keeps of a segment when a step is over.
template <class C>
__device__ std::uint32_t kept_pages(Geometry const& g, LaneState const& lane, int segment) {
  std::uint32_t const needed = segment == rows_segment ? row_pages(g, placed_granules<C>(lane))
                               : segment == digests_segment
                                   ? digest_pages<C>(g, lane.rows)
                                   : g.segment[segment].pages_of(static_cast<std::uint32_t>(
                                         lane.codes[segment - pool_segment(0)]));
  return min(needed, lane.pages[segment]);
}

/// Pages that a lane needs as it is, and with more exact rows.
template <class C>
__device__ std::uint32_t needed_pages(Geometry const& g, LaneState const& lane, int more = 0) {
  return row_pages(g, lane.slots + more) + digest_pages<C>(g, lane.rows) +
         code_pages<C>(g, lane.codes);
}

/// @brief The shared memory of plan_pages().
struct PagePlan {
  unsigned long long total[host::water_levels];
  unsigned long long base;    ///< what lanes hold, or their floors
  unsigned long long wanted;  ///< what they miss of their aims
  int level;
};

/// @brief Gives each lane of a sequence its pages for the next step: an aim, what it asks for at
/// the lowest water level at which all of them fit the sequence's part of the pool, and a budget:
/// what it holds and a part of what is free. @see host::plan_ladder
///
/// Sums of budgets never exceed the part, so that what a lane takes within its budget is there,
/// whatever the others do: decisions do not depend on who comes first. Where no row is compact a
/// lane over its aim gives way at once: its budget is its aim.
/// @param length the sequence's
/// @return the water level's index
/// @complexity O(lanes * levels) by one block
template <class C, int Threads>
__device__ int plan_pages(Geometry const& g, LaneState* lanes, int length, PagePlan& shared) {
  int const thread = static_cast<int>(threadIdx.x);
  int const rows = length + 1;
  auto const room = static_cast<unsigned long long>(g.room);
  auto const count = static_cast<unsigned long long>(g.lanes);
  std::uint32_t const digests = digest_pages<C>(g, rows);
  std::uint32_t const floor = floor_pages<C>(g, length);
  auto const need = [&](LaneState const& lane, int level) {
    std::uint32_t const demand = lane.demand[level];
    // An eighth more than it needs in one step: rows keep their level for a while.
    return static_cast<unsigned long long>(max(digests + demand + demand / 8 + 2, floor));
  };
  for (int i = thread; i < host::water_levels; i += Threads) {
    shared.total[i] = 0;
  }
  if (thread == 0) {
    shared.base = shared.wanted = 0;
  }
  __syncthreads();
  static_assert(Threads % host::water_levels == 0);
  int const own = thread % host::water_levels;
  unsigned long long sum = 0;
  for (int i = thread / host::water_levels; i < g.lanes; i += Threads / host::water_levels) {
    sum += need(lanes[i], own);
  }
  atomicAdd(&shared.total[own], sum);
  __syncthreads();
  if (thread == 0) {
    int level = 0;
    while (level + 1 < host::water_levels && shared.total[level] > room) {
      ++level;
    }
    shared.level = level;
  }
  __syncthreads();
  int const level = shared.level;
  bool const fits = shared.total[level] <= room;
  unsigned long long const spare = fits ? (room - shared.total[level]) / count : 0;
  auto const aim_of = [&](LaneState const& lane) {
    return fits ? need(lane, level) + spare : room / count;
  };
  auto const base_of = [&](LaneState const& lane) {
    auto const held = static_cast<unsigned long long>(row_pages(g, lane.slots) + digests +
                                                      code_pages<C>(g, lane.codes));
    return max(held, static_cast<unsigned long long>(floor));
  };
  auto const growth_of = [](unsigned long long aim, unsigned long long base) {
    return aim > base ? aim - base : 0ULL;
  };
  if constexpr (!C::has_levels) {
    for (int i = thread; i < g.lanes; i += Threads) {
      lanes[i].budget = lanes[i].aim = static_cast<std::uint32_t>(aim_of(lanes[i]));
    }
    __syncthreads();
    return level;
  }
  unsigned long long base_sum = 0;
  unsigned long long wanted_sum = 0;
  for (int i = thread; i < g.lanes; i += Threads) {
    unsigned long long const base = base_of(lanes[i]);
    base_sum += base;
    wanted_sum += growth_of(aim_of(lanes[i]), base);
  }
  atomicAdd(&shared.base, base_sum);
  atomicAdd(&shared.wanted, wanted_sum);
  __syncthreads();
  unsigned long long const base_all = shared.base;
  unsigned long long const wanted = shared.wanted;
  for (int i = thread; i < g.lanes; i += Threads) {
    LaneState& lane = lanes[i];
    unsigned long long const aim = aim_of(lane);
    unsigned long long const base = base_of(lane);
    unsigned long long budget = base;
    if (base_all <= room) {
      unsigned long long const free = room - base_all;
      unsigned long long const growth = growth_of(aim, base);
      budget += wanted <= free ? growth + (free - wanted) / count : growth * free / wanted;
    } else {  // digests grew: who holds more than the floor gives way
      unsigned long long const over = base_all - room;
      unsigned long long const excess = base_all - floor * count;
      unsigned long long const above = base - floor;
      budget -= min(above, (over * above + excess - 1) / excess);
    }
    lane.aim = static_cast<std::uint32_t>(aim);
    lane.budget = static_cast<std::uint32_t>(budget);
  }
  __syncthreads();
  return level;
}

}  // namespace kvfreeze::gpu::detail
