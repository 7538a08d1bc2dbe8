#pragma once

/// @file
/// @brief The budgets of the next step, where there are any.

#include <kvfreeze/gpu/detail/give_way.cuh>
#include <kvfreeze/gpu/detail/page_plan.cuh>
#include <kvfreeze/gpu/detail/transfer_shares.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What the lanes of each sequence may hold and move in the next step. One block a sequence.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void plan_kernel(
    Geometry g, CacheMemory memory, std::uint32_t const* batch, std::uint32_t const* steps) {
  std::uint32_t const sequence = batch[blockIdx.x];
  LaneState* const lanes =
      memory.lanes + static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.lanes);
  if constexpr (C::ranks) {  // elsewhere every lane's part holds all of its codes
    if (g.room != 0) {
      __shared__ PagePlan plan;
      int const level = plan_pages<C, Threads>(g, lanes, lanes[0].rows, plan);
      for (int i = static_cast<int>(threadIdx.x); i < g.lanes; i += Threads) {
        lanes[i].water = level > 0 ? g.levels[level] : 0.0F;
      }
    }
  }
  if (g.limits_transfers) {
    __shared__ typename TransferShares<Threads>::Storage storage;
    TransferShares<Threads>::template deal<C::span>(g, lanes, steps[sequence], storage);
  }
}

/// @brief Lanes over their budgets give way, to hold the row to come and the digest group that it
/// may complete. One block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void give_way_kernel(
    Geometry g, CacheMemory memory, std::uint32_t const* batch) {
  __shared__ typename BlockPartition<Threads>::Storage storage;
  LaneRef<C> const ref(g, memory, batch[blockIdx.y], blockIdx.x);
  LaneState const& lane = *ref.lane;
  std::uint32_t const more = digest_pages<C>(g, lane.rows + 1) - digest_pages<C>(g, lane.rows);
  give_way<C, Threads>(ref, lane.budget - min(lane.budget, more), storage);
}

}  // namespace kvfreeze::gpu::detail
