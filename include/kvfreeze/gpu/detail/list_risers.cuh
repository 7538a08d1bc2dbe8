#pragma once

#include <kvfreeze/gpu/detail/mark_rows.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Lists the granules that are marked, frozen ones first, each with the level that it rises
/// to.
/// @return how many rise
template <class C>
__device__ int list_risers(LadderLane<C> const& l) {
  using List = BitList<LadderLane<C>::threads>;
  RungCuts const& cuts = l.shared.cuts;
  auto const push = [&](std::uint32_t granule, int level, bool from_pool, int rank) {
    l.riser(rank) = {granule, static_cast<std::uint32_t>(level), from_pool ? 1U : 0U};
  };
  MustBeExact<C> const must(l);
  int risers = List::for_each(
      l.risers, l.runs().rows[LaneRuns::digests], 0, l.shared.bits, [&](int i, int rank) {
        auto const granule = static_cast<std::uint32_t>(i);
        Mass const mass = l.mass(LaneRuns::digests, i);
        push(granule, riser_level<C>(cuts, must.granule(granule), mass, 0), false, rank);
      });
  for (int level = 0; level < C::levels; ++level) {
    int const run = LaneRuns::pool(level);
    risers = List::for_each(
        l.risers + l.runs().begin[run] / 32, l.runs().rows[run], risers, l.shared.bits,
        [&](int i, int rank) {
          std::uint32_t const granule = l.coded(level, i);
          Mass const mass = l.mass(run, i);
          push(granule, riser_level<C>(cuts, must.granule(granule), mass, level + 1), true, rank);
          l.runs().masses[granule] = mass;  // for the order of what must wait
          l.code_place(granule) = {static_cast<std::uint32_t>(i),
                                   static_cast<std::uint32_t>(level)};
        });
  }
  return risers;
}

}  // namespace kvfreeze::gpu::detail
