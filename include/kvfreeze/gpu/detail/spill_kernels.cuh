#pragma once

#include <kvfreeze/gpu/cached_slots.cuh>
#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/gpu/detail/mover_kernels.cuh>
#include <kvfreeze/gpu/detail/spilled_rows.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/move_job.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// As for the movers: a block of mapped memory for each block that is there.
struct CachedPlaces {
  CachedSlots::Entry const* blocks = nullptr;
  uint4* memory = nullptr;
  std::uint32_t lane_blocks = 0;
  std::uint32_t block_shift = 0;

  __device__ uint4* operator()(MoveJob const& job, std::uint32_t, std::size_t lane,
                               std::size_t granule_units) const {
    std::uint32_t const place = blocks[lane * lane_blocks + (job.granule >> block_shift)].place;
    std::uint32_t const within = job.granule & ((1U << block_shift) - 1U);
    return place == CachedSlots::absent
               ? nullptr
               : memory + ((std::size_t{place} << block_shift) + within) * granule_units;
  }
};

inline constexpr int updates_of_launch = 448;  ///< what kernel arguments hold

/// Changes of the table of blocks, by value: nothing has to outlive the launch.
struct BlockUpdates {
  std::uint32_t count = 0;
  std::uint32_t block[updates_of_launch];
  std::uint32_t place[updates_of_launch];
};

static_assert(sizeof(BlockUpdates) <= 3600);

/// @brief Puts changes of the table into effect, and begins a step: its misses go to an empty
/// buffer.
/// @param next the step; 0: none begins
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void update_blocks_kernel(BlockUpdates updates, CachedSlots::Entry* blocks,
                                       SpillStep* now, SpillStep next) {
  for (std::uint32_t i = threadIdx.x; i < updates.count; i += Threads) {
    blocks[updates.block[i]].place = updates.place[i];
  }
  if (threadIdx.x == 0 && next.step != 0) {
    *now = next;
  }
}

/// @brief Ends a step: the host is told how many of its misses are written down. One thread.
template <class Step>
__global__ __attribute__((visibility("hidden"))) void end_spill_step_kernel(Step const* now,
                                                                            MissBuffers misses) {
  *misses.buffer(now->buffer) = min(now->misses, misses.room);
}

/// @brief Parts jobs into those whose rows are there and those whose rows are not. One block, so
/// that jobs keep their order.
template <int Threads, class Carry>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void resolve_kernel(
    Span<MoveJob const> jobs, Span<std::uint32_t const> count, SpilledRows rows, Span<MoveJob> out,
    std::uint32_t* totals, Carry carry) {
  __shared__ WarpSums<Threads> storage;
  auto const most = static_cast<std::uint32_t>(jobs.size());
  std::uint32_t const all = min(count[0], most);
  std::uint32_t present = 0;
  for (std::uint32_t tile = 0; tile < all; tile += Threads) {
    std::uint32_t const i = tile + threadIdx.x;
    bool here = false;
    if (i < all) {
      MoveJob const job = load_job(jobs.data() + i);
      here = rows.ask(rows.slots.lane({job.sequence, job.lane, job.granule}), job.granule);
      if (!here) {
        carry(job);
      }
    }
    std::uint32_t rank = 0;
    std::uint32_t sum = 0;
    scan_flags<Threads>(storage, here, rank, sum);
    if (here) {
      reinterpret_cast<uint4*>(out.data())[present + rank] =
          reinterpret_cast<uint4 const*>(jobs.data())[i];
    }
    present += sum;
    __syncthreads();  // the storage is used again
  }
  if (threadIdx.x == 0) {
    totals[0] = present;
    totals[1] = all - present;
  }
}

}  // namespace kvfreeze::gpu::detail
