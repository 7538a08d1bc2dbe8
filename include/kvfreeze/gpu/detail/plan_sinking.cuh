#pragma once

#include <kvfreeze/gpu/detail/kth_key.cuh>
#include <kvfreeze/gpu/detail/mark_rows.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What was not needed at its level for so many steps will sink to the level of its mass.
/// @param stay 1: whatever this step does not need; at least the age that compact rows were marked
///   for
/// @see host::sink
template <class C>
__device__ void plan_sinking(LadderLane<C> const& l, int stay) {
  LaneRef<C> const& ref = l.ref;
  LaneRuns const& runs = l.runs();
  RungCuts const& cuts = l.shared.cuts;
  int const age = max(stay, 1);
  bool const all_old = age == l.verdict.sink_age;
  for (int level = 0; level < C::levels; ++level) {
    int const run = LaneRuns::pool(level);
    std::uint32_t const* const words = l.sinkers + runs.begin[run] / 32;
    for (int word = static_cast<int>(threadIdx.x); 32 * word < runs.rows[run]; word += l.threads) {
      std::uint32_t leaving = 0;
      for (std::uint32_t bits = __ldcg(words + word); bits != 0; bits &= bits - 1) {
        int const i = 32 * word + __ffs(static_cast<int>(bits)) - 1;
        auto const slot = static_cast<std::uint32_t>(i);
        if (!all_old && !is_old(l, ref.code(level, slot).stamp(), age)) {
          continue;
        }
        std::uint32_t const granule = l.coded(level, i);
        std::uint8_t& plan = ref.plans[granule];
        int const to = cuts.level(l.mass(run, i));
        if (plan == 0 && (to == 0 || ref.is_here(granule))) {  // it is coded as the tier has it
          plan = static_cast<std::uint8_t>(Plan::leaves_pool | Plan::to(to));
          leaving |= bits & -bits;
        }
      }
      if (leaving != 0) {
        ref.leaving(level)[word] |= leaving;
      }
    }
  }
  __syncwarp();  // threads that had few bits wait for the others, to load side by side again
  auto const open = ref.open_range();
  for (int i = static_cast<int>(threadIdx.x); i < runs.rows[LaneRuns::exact]; i += l.threads) {
    host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
    std::uint32_t const granule = record.granule;
    if (ref.may_freeze(granule, open) && is_old(l, record.stamp, age)) {
      int const to = cuts.level(l.mass(LaneRuns::exact, i));
      if (to != l.exact_level) {
        ref.plans[granule] = Plan::to(to);
      }
    }
  }
}

/// @brief From a pool to a coarser one a row goes by way of the tier: with a transfer budget the
/// oldest do for which it lasts, the others stay.
/// @param risers that the budget has paid for
template <class C>
__device__ void limit_sinking(LadderLane<C> const& l, int risers) {
  if (l.state().allotment == no_limit) {
    return;
  }
  __syncthreads();
  int left = static_cast<int>(l.state().allotment) - risers;
  for (int level = 1; level < C::levels; ++level) {
    int const rows = l.runs().rows[LaneRuns::pool(level)];
    auto const moves = [&](int i) {
      if ((l.ref.leaving(level)[i / 32] >> (i % 32) & 1U) == 0) {
        return false;
      }
      std::uint8_t const plan = l.ref.plans[l.coded(level, i)];
      return (plan & Plan::guest) == 0 && Plan::level(plan) > 0;
    };
    int moving = 0;
    for (int first = 0; first < rows; first += l.threads) {
      int const i = first + static_cast<int>(threadIdx.x);
      moving += __syncthreads_count(i < rows && moves(i));
    }
    if (moving > left) {
      constexpr std::uint64_t stays = 1ULL << 24;
      auto const key = [&](int i) { return moves(i) ? l.coded(level, i) : stays; };
      std::uint64_t const last =
          left > 0 ? kth_key<LadderLane<C>::threads, 25>(rows, left, key) : 0;
      for (int i = static_cast<int>(threadIdx.x); i < rows; i += l.threads) {
        if (moves(i) && (left == 0 || l.coded(level, i) > last)) {
          l.ref.plans[l.coded(level, i)] = 0;
          l.ref.unmark_leaving(level, static_cast<std::uint32_t>(i));
        }
      }
      __syncthreads();
    }
    left -= min(moving, left);
  }
}

}  // namespace kvfreeze::gpu::detail
