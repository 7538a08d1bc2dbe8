#pragma once

#include <kvfreeze/gpu/cached_slots.cuh>
#include <kvfreeze/gpu/detail/mover_kernels.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/move_job.cuh>

#include <cub/block/block_scan.cuh>

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

/// The device's own numbers of a spilling tier.
struct SpillStep {
  std::uint32_t step = 0;
  std::uint32_t buffer = 0;  ///< where this step's misses go
  std::uint32_t misses = 0;  ///< in it, those included for which there was no room
};

/// One step's misses, in mapped memory: a number of blocks, then the blocks.
struct MissBuffers {
  std::uint32_t* memory = nullptr;  ///< [buffer][1 + room]
  std::uint32_t room = 0;

  __device__ std::uint32_t* buffer(std::uint32_t i) const {
    return memory + std::size_t{i} * (std::size_t{room} + 1);
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

/// @brief Puts changes of the table into effect.
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void update_blocks_kernel(BlockUpdates updates, CachedSlots::Entry* blocks) {
  for (std::uint32_t i = threadIdx.x; i < updates.count; i += Threads) {
    blocks[updates.block[i]].place = updates.place[i];
  }
}

/// @brief Begins a step: its misses go to an empty buffer.
template <class Step>
__global__ __attribute__((visibility("hidden"))) void begin_step_kernel(Step* now,
                                                                        std::uint32_t step,
                                                                        std::uint32_t buffer,
                                                                        MissBuffers misses) {
  *now = {step, buffer, 0};
  *misses.buffer(buffer) = 0;
}

/// @brief Parts jobs into those whose rows are there and those whose rows are not. One block, so
/// that jobs keep their order. A block that is there is stamped for the host once a step, one that
/// is not is written to the step's misses once.
template <int Threads, class Carry>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void resolve_kernel(
    Span<MoveJob const> jobs, Span<std::uint32_t const> count, CachedSlots slots,
    std::uint32_t* needed, SpillStep* now, MissBuffers misses, Span<MoveJob> out,
    std::uint32_t* totals, Carry carry) {
  using Scan = cub::BlockScan<std::uint64_t, Threads, cub::BLOCK_SCAN_WARP_SCANS>;
  __shared__ typename Scan::TempStorage storage;
  auto const most = static_cast<std::uint32_t>(jobs.size());
  std::uint32_t const all = min(count[0], most);
  std::uint32_t const step = now->step;
  std::uint32_t* const buffer = misses.buffer(now->buffer);
  std::uint32_t missed = now->misses;
  std::uint32_t present = 0;
  for (std::uint32_t tile = 0; tile < all; tile += Threads) {
    std::uint32_t const i = tile + threadIdx.x;
    MoveJob job;
    std::uint32_t block = 0;
    std::uint64_t own = 0;  // upper half: a miss to write down, lower half: present
    if (i < all) {
      job = load_job(jobs.data() + i);
      block = static_cast<std::uint32_t>(slots.block({job.sequence, job.lane, job.granule}));
      CachedSlots::Entry& entry = slots.blocks[block];
      bool const first = atomicExch(&entry.stamp, step) != step;
      std::uint32_t const place = entry.place;
      if (place != CachedSlots::absent) {
        own = 1;
        if (first) {
          needed[place] = step;
        }
      } else {
        own = first ? std::uint64_t{1} << 32 : 0;
        carry(job);
      }
    }
    std::uint64_t prefix = 0;
    std::uint64_t sum = 0;
    Scan(storage).ExclusiveSum(own, prefix, sum);
    if ((own & 1U) != 0) {
      reinterpret_cast<uint4*>(out.data())[present + static_cast<std::uint32_t>(prefix)] =
          reinterpret_cast<uint4 const*>(jobs.data())[i];
    }
    std::uint32_t const at = missed + static_cast<std::uint32_t>(prefix >> 32);
    if ((own >> 32) != 0 && at < misses.room) {
      buffer[1 + at] = block;
    }
    present += static_cast<std::uint32_t>(sum);
    missed += static_cast<std::uint32_t>(sum >> 32);
    __syncthreads();  // the storage is used again
  }
  if (threadIdx.x == 0) {
    totals[0] = present;
    totals[1] = all - present;
    now->misses = missed;
    buffer[0] = min(missed, misses.room);
  }
}

}  // namespace kvfreeze::gpu::detail
