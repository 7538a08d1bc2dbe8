#pragma once

/// @file
/// @brief The ladder's decisions of one lane and step, from masses to lists: who rises, who will
/// sink. By the block that counts a lane's last masses.

#include <kvfreeze/detail/ladder_cost.hpp>
#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/rung_cuts.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cub/block/block_scan.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Calls f(index, rank) for the indices of [0, n) that `wanted` picks, in order; all threads
/// call together. @return how many there are beyond `first`, `first` included
template <int Threads, class Scan, class Wanted, class F>
__device__ int for_each_ranked(int n, int first, typename Scan::TempStorage& storage,
                               Wanted const& wanted, F const& f) {
  int count = first;
  for (int begin = 0; begin < n; begin += Threads) {
    int const i = begin + static_cast<int>(threadIdx.x);
    bool const is_wanted = i < n && wanted(i);
    int rank = 0;
    int total = 0;
    Scan(storage).ExclusiveSum(is_wanted ? 1 : 0, rank, total);
    if (is_wanted) {
      f(i, count + rank);
    }
    count += total;
    __syncthreads();
  }
  return count;
}

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

/// A granule that rises, in one word: there are fewer than 2^24 of them.
struct Riser {
  std::uint32_t granule : 24;
  std::uint32_t level : 4;  ///< that it rises to
  std::uint32_t from_pool : 1;
};

static_assert(sizeof(Riser) == sizeof(std::uint32_t));

/// @brief Decides one lane's step on the ladder and fetches what rises: for softmax_masses_async().
///
/// Afterwards the lane's slots are the exact rows that attention reads, guests behind them; logits
/// of codes that rise are minus infinity; `plans` says what the slow clock moves.
template <class C>
struct RankLadder {
  static constexpr int threads = CumulativeHistogram::threads;
  static constexpr int exact_level = C::levels + 1;
  static constexpr int most_heads = 64;
  using Scan = cub::BlockScan<int, threads>;

  Geometry geometry;
  CacheMemory memory;
  LayerStep<C> step;
  typename C::Scheduler scheduler;

  struct Storage {
    typename Scan::TempStorage scan;
    RungCuts cuts;
    LaneFacts facts;
    unsigned long long missed;
    unsigned long long weights[most_heads];  ///< of frozen rows that rise, by query head
    int exact;                               ///< risers to exact slots
    bool everything;
    bool placed;
  };

  __device__ void operator()(int work, CumulativeHistogram const& masses) const {
    __shared__ Storage shared;
    WorkLane const where(geometry, step, work);
    LaneRef<C> const ref(geometry, memory, where.sequence, where.lane);
    if (ref.lane->mode == LaneMode::dense) {
      return;
    }
    LaneRuns const runs = lane_runs(ref, step, work);
    if (threadIdx.x == 0) {
      decide(ref, where, masses, shared);
    }
    __syncthreads();
    if (ref.lane->mode == LaneMode::dense) {
      return;
    }
    if (step.pass == Pass::look) {
      forget_stamps(ref, where.step);
      return;
    }
    stamp_needed(ref, runs, shared.cuts, where.step);
    if (step.pass != Pass::decode) {
      if (step.pass == Pass::last_vote) {
        __syncthreads();
        plan_sinking(ref, runs, where.step, 1, shared);
      }
      return;
    }
    int const asked = list_risers(ref, runs, shared);
    int const risers = place_risers(ref, runs, where, work, asked, shared);
    note_missed(ref, runs, shared);
    hide_risen_codes(ref, runs);
    __syncthreads();
    if (ref.lane->sinks && !shared.everything) {
      plan_sinking(ref, runs, where.step, scheduler.retain(shared.facts).count, shared);
    }
    __syncthreads();
    finish(ref, work, risers, shared);
  }

 private:
  /// The cuts, and whether everything is wanted exact. By one thread. @see host::step_ladder
  __device__ void decide(LaneRef<C> const& ref, WorkLane const& where,
                         CumulativeHistogram const& masses, Storage& shared) const {
    LaneState& lane = *ref.lane;
    LaneFacts facts = lane_facts(ref, step.layer, where.head, where.step);
    RungCuts cuts = find_cuts<C::levels>(masses, scheduler.rungs(facts));
    if (lane.mode == LaneMode::looks) {
      RungCuts counted = cuts;
      counted.least[0] = max(counted.least[0], 1U);  // rows that do not take part have no mass
      RungCounts const counts = count_rungs<C::levels>(masses, counted);
      int compact = 0;
      for (int level = 0; level < C::levels; ++level) {
        compact += counts.compact[level];
      }
      lane.ladder_cost = kvfreeze::detail::ladder_cost(
          facts.granules, facts.protected_granules + counts.exact, compact, C::page);
      lane.next_look = kvfreeze::detail::next_look(lane.rows, C::Digest::group_rows);
      facts.ladder_cost = lane.ladder_cost;
    }
    shared.everything = scheduler.recall(facts).kind == Selection::Kind::all;
    bool const rests = shared.everything && (lane.slots == lane.rows || step.pass == Pass::look);
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
  }

  /// Before a chunk's queries vote, no exact row counts as needed.
  __device__ void forget_stamps(LaneRef<C> const& ref, std::uint32_t now) const {
    for (int i = static_cast<int>(threadIdx.x); i < ref.lane->slots; i += threads) {
      ref.record(static_cast<std::uint32_t>(i)).stamp = static_cast<std::uint16_t>(now - 1U);
    }
  }

  /// Notes on each slot that this step needs it at its level. @see host::stamp_needed
  __device__ void stamp_needed(LaneRef<C> const& ref, LaneRuns const& runs, RungCuts const& cuts,
                               std::uint32_t now) const {
    float const hold = kvfreeze::detail::hysteresis(scheduler);
    auto const stamp = static_cast<std::uint16_t>(now);
    for (int run = LaneRuns::exact; run < 2 + C::levels; ++run) {
      int const level = run == LaneRuns::exact ? exact_level : run - 1;
      std::uint32_t const least = cuts.needed(level, hold);
      Mass const* const masses = runs.masses + runs.begin[run];
      for (int i = static_cast<int>(threadIdx.x); i < runs.rows[run]; i += threads) {
        if (__ldcg(masses + i) < least) {
          continue;
        }
        auto const slot = static_cast<std::uint32_t>(i);
        if (run == LaneRuns::exact) {
          ref.record(slot).stamp = stamp;
        } else {
          ref.code_stamp(level - 1, slot) = stamp;
        }
      }
    }
  }

  /// @brief Lists the granules that rise, frozen ones first, each with the level that it rises to.
  /// @return how many
  __device__ int list_risers(LaneRef<C> const& ref, LaneRuns const& runs, Storage& shared) const {
    RungCuts const cuts = shared.cuts;
    auto const push = [&](std::uint32_t granule, int level, bool from_pool, int rank) {
      riser(runs, rank) = {granule, static_cast<std::uint32_t>(level), from_pool ? 1U : 0U};
    };
    auto const frozen_level = [&](int granule) {
      std::uint8_t const state = ref.states[granule];
      return is_frozen(state)
                 ? riser_level<C>(cuts, state, mass(runs, LaneRuns::digests, granule), 0)
                 : 0;
    };
    int risers = for_each_ranked<threads, Scan>(
        runs.rows[LaneRuns::digests], 0, shared.scan, [&](int i) { return frozen_level(i) > 0; },
        [&](int i, int rank) {
          push(static_cast<std::uint32_t>(i), frozen_level(i), false, rank);
        });
    for (int level = 0; level < C::levels; ++level) {
      int const run = LaneRuns::pool(level);
      auto const code_level = [&](int i) {
        std::uint32_t const granule = runs.granules[runs.begin[run] + i];
        return riser_level<C>(cuts, ref.states[granule], mass(runs, run, i), level + 1);
      };
      risers = for_each_ranked<threads, Scan>(
          runs.rows[run], risers, shared.scan, [&](int i) { return code_level(i) > 0; },
          [&](int i, int rank) {
            push(runs.granules[runs.begin[run] + i], code_level(i), true, rank);
          });
    }
    return risers;
  }

  /// @brief Gives risers their slots, exact ones first and guests behind them, and loads their
  /// rows. Where the pool has no pages for them they wait, first in line at the next step.
  /// @return how many rose
  __device__ int place_risers(LaneRef<C> const& ref, LaneRuns const& runs, WorkLane const& where,
                              int work, int asked, Storage& shared) const {
    LaneState& lane = *ref.lane;
    int const thread = static_cast<int>(threadIdx.x);
    int const slots = lane.slots;
    if (thread == 0) {
      shared.placed = grow(ref, memory.pool, rows_segment, slots + asked);
    }
    if (thread < geometry.lane_queries) {
      shared.weights[thread] = 0;
    }
    __syncthreads();
    if (!shared.placed) {
      for (int i = thread; i < asked; i += threads) {
        ref.states[riser(runs, i).granule] |= host::GranuleState::carried;
      }
      if (thread == 0) {
        lane.deferred += static_cast<std::uint32_t>(asked);
      }
      __syncthreads();
      return 0;
    }
    int placed = 0;
    for (bool const to_exact : {true, false}) {
      placed = for_each_ranked<threads, Scan>(
          asked, placed, shared.scan,
          [&](int i) {
            return (static_cast<int>(riser(runs, i).level) == exact_level) == to_exact;
          },
          [&](int i, int rank) {
            take(ref, where, riser(runs, i), static_cast<std::uint32_t>(slots + rank));
          });
      if (to_exact && thread == 0) {
        shared.exact = placed;
      }
    }
    __syncthreads();
    for (int i = thread / 32; i < asked; i += threads / 32) {
      auto const slot = static_cast<std::uint32_t>(slots + i);
      load_granule(ref, ref.record(slot).granule, slot, thread % 32);
    }
    sum_risers(runs, work, asked, shared);
    return asked;
  }

  /// A riser gets its slot; its state is that of an exact row, or its plan says what becomes of it.
  __device__ void take(LaneRef<C> const& ref, WorkLane const& where, Riser const& r,
                       std::uint32_t slot) const {
    bool const stays = static_cast<int>(r.level) == exact_level;
    ref.record(slot) = {r.granule, static_cast<std::uint16_t>(where.step), 0};
    std::uint8_t const leaves = r.from_pool != 0 ? Plan::leaves_pool : 0;
    std::uint8_t const goes =
        stays ? 0 : static_cast<std::uint8_t>(Plan::guest | Plan::to(static_cast<int>(r.level)));
    ref.plans[r.granule] = static_cast<std::uint8_t>(leaves | goes);
    std::uint8_t const state = ref.states[r.granule];
    if ((state & host::GranuleState::forced) != 0) {
      atomicSub(&ref.lane->forced, 1U);
    }
    constexpr std::uint8_t settled = host::GranuleState::forced | host::GranuleState::carried;
    ref.states[r.granule] = static_cast<std::uint8_t>(
        (stays ? host::GranuleState::with(state, Fidelity::exact) : state) & ~settled);
  }

  /// Rows that rise are attended as they are: the weights that digests gave them do not count.
  __device__ void sum_risers(LaneRuns const& runs, int work, int risers, Storage& shared) const {
    int const heads = geometry.lane_queries;
    for (int i = static_cast<int>(threadIdx.x); i < risers * heads; i += threads) {
      Riser const r = riser(runs, i / heads);
      int const h = i % heads;
      if (r.from_pool == 0) {
        float const logit = __ldcg(runs.logits + h * runs.stride + r.granule);
        float const highest = __ldcg(step.highest + work * heads + h);
        float const weight = softmax_weight(logit, minus_reference(highest));
        atomicAdd(&shared.weights[h], static_cast<unsigned long long>(weight));
      }
    }
    __syncthreads();
  }

  /// The mass that attention does not see: of rows that are frozen and stay so.
  __device__ void note_missed(LaneRef<C> const& ref, LaneRuns const& runs, Storage& shared) const {
    std::uint64_t missed = 0;
    for (int i = static_cast<int>(threadIdx.x); i < runs.rows[LaneRuns::digests]; i += threads) {
      if (is_frozen(ref.states[i]) && ref.plans[i] == 0) {
        missed += mass(runs, LaneRuns::digests, i);
      }
    }
    missed = warp_sum(missed);
    if (threadIdx.x % 32 == 0) {
      atomicAdd(&shared.missed, static_cast<unsigned long long>(missed));
    }
  }

  /// Codes of rows that rose are not attended beside the rows themselves.
  __device__ void hide_risen_codes(LaneRef<C> const& ref, LaneRuns const& runs) const {
    for (int level = 0; level < C::levels; ++level) {
      int const begin = runs.begin[LaneRuns::pool(level)];
      for (int i = static_cast<int>(threadIdx.x); i < runs.rows[LaneRuns::pool(level)];
           i += threads) {
        if ((ref.plans[runs.granules[begin + i]] & Plan::leaves_pool) != 0) {
          for (int h = 0; h < geometry.lane_queries; ++h) {
            runs.logits[h * runs.stride + begin + i] = minus_infinity();
          }
        }
      }
    }
  }

  /// What was not needed at its level for so many steps will sink to the level of its mass.
  /// @see host::sink
  __device__ void plan_sinking(LaneRef<C> const& ref, LaneRuns const& runs, std::uint32_t now,
                               int stay, Storage& shared) const {
    RungCuts const cuts = shared.cuts;
    auto const limit = static_cast<std::uint16_t>(max(stay, 1));
    auto const is_old = [&](std::uint16_t stamp) {
      return static_cast<std::uint16_t>(now - stamp) >= limit;
    };
    for (int level = 0; level < C::levels; ++level) {
      int const run = LaneRuns::pool(level);
      for (int i = static_cast<int>(threadIdx.x); i < runs.rows[run]; i += threads) {
        std::uint32_t const granule = runs.granules[runs.begin[run] + i];
        if (ref.plans[granule] == 0 &&
            is_old(ref.code_stamp(level, static_cast<std::uint32_t>(i)))) {
          int const to = cuts.level(mass(runs, run, i));
          if (to <= level) {
            ref.plans[granule] = static_cast<std::uint8_t>(Plan::leaves_pool | Plan::to(to));
          }
        }
      }
    }
    auto const open = ref.open_range();
    for (int i = static_cast<int>(threadIdx.x); i < runs.rows[LaneRuns::exact]; i += threads) {
      host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
      auto const granule = static_cast<int>(record.granule);
      bool const may_go = granule >= open.low && granule < open.high &&
                          (ref.states[granule] & host::GranuleState::pinned) == 0;
      if (may_go && is_old(record.stamp)) {
        int const to = cuts.level(mass(runs, LaneRuns::exact, i));
        if (to != exact_level) {
          ref.plans[granule] = Plan::to(to);
        }
      }
    }
  }

  /// The lane's numbers, and what attention reads.
  __device__ void finish(LaneRef<C> const& ref, int work, int risers, Storage& shared) const {
    LaneState& lane = *ref.lane;
    int const thread = static_cast<int>(threadIdx.x);
    if (thread < geometry.lane_queries) {
      float& absent = step.absent[work * geometry.lane_queries + thread];
      float const left = __ldcg(&absent) - static_cast<float>(shared.weights[thread]);
      absent = fmaxf(left, 0.0F);  // rounding may leave less than nothing
    }
    if (thread == 0) {
      int const slots = lane.slots;
      lane.missed = static_cast<float>(shared.missed) * 0x1p-30F;
      lane.slots = slots + shared.exact;
      lane.guests = risers - shared.exact;
      lane.thawed += static_cast<std::uint32_t>(risers);
      lane.moved_in += static_cast<std::uint64_t>(risers) * geometry.granule_bytes();
      lane.touched = step_bytes(ref, true, slots + risers);
      step.attended[work] = static_cast<std::uint32_t>(slots + risers);
      step.attended[step.lanes + work] = static_cast<std::uint32_t>(slots);  // logits are known
    }
  }

  static __device__ bool is_frozen(std::uint8_t state) {
    return (state & host::GranuleState::fidelity_mask) ==
           static_cast<std::uint8_t>(Fidelity::frozen);
  }

  /// Other blocks wrote most of them.
  static __device__ Mass mass(LaneRuns const& runs, int run, int i) {
    return __ldcg(runs.masses + runs.begin[run] + i);
  }

  /// The list of risers lies where digests would have granules, which they do not need.
  static __device__ Riser& riser(LaneRuns const& runs, int i) {
    return reinterpret_cast<Riser*>(runs.granules)[i];
  }
};

}  // namespace kvfreeze::gpu::detail
