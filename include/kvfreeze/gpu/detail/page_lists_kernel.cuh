#pragma once

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/paged_view.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Lists the pages of a step's lanes, guests' pages among them. One block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void page_lists_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, PageLists lists) {
  __shared__ std::uint32_t sum;
  auto const lane = static_cast<int>(blockIdx.x);
  auto const rows_of = [&](int i) { return s.attended[i * g.heads_per_lane]; };
  auto const pages_of = [&](int i) { return (rows_of(i) + page_rows - 1) / page_rows; };
  std::uint32_t before = 0;
  for (int i = static_cast<int>(threadIdx.x); i < lane; i += Threads) {
    before += pages_of(i);
  }
  before = block_sum(before, sum);
  std::uint32_t const own = pages_of(lane);
  WorkLane const work(g, s, lane);
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  std::uint32_t const* const table = ref.table + g.segment[rows_segment].first_page;
  for (std::uint32_t i = threadIdx.x; i < own; i += Threads) {
    lists.pages[before + i] = static_cast<std::int32_t>(table[i]);
  }
  if (threadIdx.x == 0) {
    std::uint32_t const rows = rows_of(lane);
    lists.first[static_cast<std::size_t>(lane)] = static_cast<std::int32_t>(before);
    lists.last_page_rows[static_cast<std::size_t>(lane)] =
        static_cast<std::int32_t>(own == 0 ? 0 : rows - (own - 1) * page_rows);
    if (lane + 1 == s.lanes) {
      lists.first[static_cast<std::size_t>(lane) + 1] = static_cast<std::int32_t>(before + own);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
