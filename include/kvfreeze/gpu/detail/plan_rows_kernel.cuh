#pragma once

/// @file
/// @brief The budgets of the next step of lanes without compact rows.

#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/page_plan.cuh>
#include <kvfreeze/gpu/detail/transfer_shares.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Deals a sequence's pages to its lanes by the scheduler's shares: what a lane's digests
/// need in any case, and beside that as much as its share for each, but not less than its next rows
/// need, or an equal part if that is less, and not more than all its rows need; what is left then
/// in equal parts. The scale that makes the sum fit is found by halving. By one block.
///
/// In integers, so that the order of lanes does not matter. @see host::deal_lanes
/// @param sum of shared memory
/// @complexity O(40 * lanes)
template <class C, int Threads>
__device__ void deal_pages(Geometry const& g, CacheMemory const& memory,
                           typename C::Scheduler const& scheduler, std::uint32_t sequence,
                           std::uint32_t step, unsigned long long& sum) {
  LaneState* const lanes =
      memory.lanes + static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.lanes);
  auto const thread = static_cast<int>(threadIdx.x);
  int const rows = lanes[0].rows;
  auto const room = static_cast<unsigned long long>(g.room);
  auto const count = static_cast<unsigned long long>(g.lanes);
  unsigned long long const fixed = digest_pages<C>(g, rows + 1);
  auto const least = min(static_cast<unsigned long long>(floor_pages<C>(g, rows)), room / count);
  auto const most = max(fixed + row_pages(g, granules_of<C>(rows + 1)), least);
  constexpr float unit = 0x1p16F;
  for (int i = thread; i < g.lanes; i += Threads) {  // in `aim`, so that it is asked once
    LaneRef<C> const ref(g, memory, sequence, static_cast<std::uint32_t>(i));
    LaneFacts const facts = lane_facts(ref, i / g.lanes_per_layer, i % g.lanes_per_layer, step);
    float const share = scheduler.share(facts);
    lanes[i].aim = static_cast<std::uint32_t>(fminf(fmaxf(share * unit, 0.0F), 0x1p26F));
  }
  __syncthreads();
  auto const budget = [&](int i, unsigned long long scale) {
    return max(min(fixed + (lanes[i].aim * scale >> 32), most), least);
  };
  auto const total = [&](unsigned long long scale) {
    unsigned long long own = 0;
    for (int i = thread; i < g.lanes; i += Threads) {
      own += budget(i, scale);
    }
    if (thread == 0) {
      sum = 0;
    }
    __syncthreads();
    atomicAdd(&sum, own);
    __syncthreads();
    unsigned long long const all = sum;
    __syncthreads();
    return all;
  };
  unsigned long long low = 0;  // fits, or nothing does
  for (int bit = 36; bit >= 0; --bit) {
    unsigned long long const scale = low + (1ULL << bit);
    low = total(scale) <= room ? scale : low;
  }
  unsigned long long const dealt = total(low);
  unsigned long long const spare = dealt < room ? (room - dealt) / count : 0;
  for (int i = thread; i < g.lanes; i += Threads) {
    lanes[i].budget = static_cast<std::uint32_t>(budget(i, low) + spare);
    lanes[i].aim = no_limit;
  }
  __syncthreads();
}

/// @brief What the lanes of each sequence may hold and move in the next step. One block a sequence.
/// @param steps [max_sequences] finished steps; this one is the next
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void plan_rows_kernel(
    Geometry g, CacheMemory memory, typename C::Scheduler scheduler, std::uint32_t const* batch,
    std::uint32_t const* steps) {
  std::uint32_t const sequence = batch[blockIdx.x];
  LaneState* const lanes =
      memory.lanes + static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.lanes);
  if (g.room != 0) {
    if constexpr (kvfreeze::detail::DealsShares<typename C::Scheduler>) {
      __shared__ unsigned long long sum;
      deal_pages<C, Threads>(g, memory, scheduler, sequence, steps[sequence], sum);
    } else {
      __shared__ PagePlan plan;
      int const level = plan_pages<C, Threads>(g, lanes, lanes[0].rows, plan);
      for (int i = static_cast<int>(threadIdx.x); i < g.lanes; i += Threads) {
        lanes[i].water = g.by_demand && level > 0 ? g.levels[level] : 0.0F;
      }
    }
  }
  if (g.limits_transfers) {
    __shared__ typename TransferShares<Threads>::Storage storage;
    TransferShares<Threads>::template deal<C::span>(g, lanes, steps[sequence], storage);
  }
}

}  // namespace kvfreeze::gpu::detail
