#pragma once

#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/detail/thaw_lane.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/gpu/recall_lane.cuh>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/selection.hpp>

namespace kvfreeze::gpu::detail {

/// @brief What a step wants exact and has not is fetched before attention. By a block.
/// @param work the lane
/// @param results [work lane] of recall, or null: there are no digests
/// @param demands [work lane][water_levels] of recall, or null: nobody asks for them
template <class C, int Threads>
__device__ void thaw_rows(Geometry const& g, CacheMemory const& memory, LayerStep<C> const& s,
                          int work, typename C::Scheduler const& scheduler,
                          [[maybe_unused]] typename C::Scorer const& scorer,
                          [[maybe_unused]] RecallResult const* results,
                          [[maybe_unused]] std::uint32_t const* demands,
                          ThawStorage<C, Threads>& shared) {
  WorkLane const where(g, s, work);
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  if (ref.lane->mode == LaneMode::dense) {
    return;
  }
  LaneRuns const runs = lane_runs(ref, s, work);
  ThawLane<C, Threads> const lane{g, ref, where, runs, shared};
  int count = 0;
  bool everything = false;  // is wanted, where no digest says what
  if constexpr (C::has_digest) {
    RecallResult const& result = results[work];
    stamp_wanted<C, Threads>(ref, runs, recall_scores(runs, s), result.keep_from, where.step);
    if (threadIdx.x == 0) {
      ref.lane->deferred += result.deferred;
      ref.lane->over_cap = result.over_cap != 0;
    }
    count = lane.keep_here(static_cast<int>(result.thaws));
    if (ref.lane->budget != no_limit) {
      LaneFacts const facts = lane_facts(ref, s.layer, where.head, where.step);
      if (g.by_demand && threadIdx.x < host::water_levels) {
        auto const asked = demands[work * int{host::water_levels} + static_cast<int>(threadIdx.x)];
        ref.lane->demand[threadIdx.x] =
            row_pages(g, facts.protected_granules + static_cast<int>(asked));
      }
      __syncthreads();  // stamps are written
      count = lane.fit(count, facts.allowed, [&](std::uint32_t i) { return ref.plans[i] == 0; });
    }
  } else {
    LaneFacts const facts = lane_facts(ref, s.layer, where.head, where.step);
    everything = kvfreeze::detail::is_eager<typename C::Scheduler>() ||
                 scheduler.recall(facts).kind == Selection::Kind::all;
    count = lane.afford(lane.keep_here(lane.list_without_digests(everything)));
    count = lane.fit(count, facts.allowed, [&](std::uint32_t) { return !everything; });
  }
  int const thawed = lane.thaw(memory.pool, count);
  if constexpr (C::has_digest) {
    lane.note_missed();
    if (threadIdx.x == 0) {
      ref.lane->missed = static_cast<float>(shared.missed) * 0x1p-30F;
    }
    sleep_where<C, Threads>(ref, scheduler, where.step, [&](int i) { return ref.plans[i] == 0; });
    if constexpr (C::has_state && C::needs_mass) {
      __syncthreads();
      lane.update_scores(scorer);
    }
  } else {
    sleep_where<C, Threads>(ref, scheduler, where.step, [&](int) { return !everything; });
  }
  lane.finish(s, work, thawed);
}

/// The same where there are no digests. A block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void thaw_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, typename C::Scheduler scheduler,
    typename C::Scorer scorer) {
  __shared__ ThawStorage<C, Threads> shared;
  thaw_rows<C, Threads>(g, memory, s, static_cast<int>(blockIdx.x), scheduler, scorer, nullptr,
                        nullptr, shared);
}

}  // namespace kvfreeze::gpu::detail
