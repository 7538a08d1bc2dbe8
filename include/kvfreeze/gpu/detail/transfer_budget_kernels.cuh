#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/gpu/detail/mover_kernels.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/move_job.cuh>
#include <kvfreeze/types.hpp>

#include <cub/block/block_scan.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Granules that are left of a budget; as host::affordable_granules().
KVFREEZE_HD constexpr std::uint64_t affordable_granules(std::uint64_t left_bytes,
                                                        std::uint64_t granule_bytes) noexcept {
  return left_bytes / granule_bytes;
}

/// A budget after a payment; as host::pay_transfer().
KVFREEZE_HD constexpr std::uint64_t paid(std::uint64_t left_bytes, std::uint64_t bytes) noexcept {
  return left_bytes - (bytes < left_bytes ? bytes : left_bytes);
}

/// @brief How much of each list is kept, and where it goes. One block: its tiles of lists run one
/// after the other, so that lists keep their order.
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void keep_affordable_kernel(Span<std::uint32_t const> counts,
                                         Span<std::uint64_t> left_bytes,
                                         std::uint64_t granule_bytes, std::uint32_t* kept,
                                         std::uint32_t* places, Span<std::uint32_t> deferred,
                                         std::uint32_t* totals) {
  // Without raking: that would hold 32 sums in the registers of one warp.
  using Scan = cub::BlockScan<std::uint64_t, Threads, cub::BLOCK_SCAN_WARP_SCANS>;
  __shared__ typename Scan::TempStorage storage;
  auto const lists = static_cast<std::uint32_t>(counts.size());
  std::uint64_t before = 0;  // upper half: deferred, lower half: kept
  for (std::uint32_t tile = 0; tile < lists; tile += Threads) {
    std::uint32_t const list = tile + threadIdx.x;
    std::uint64_t own = 0;
    if (list < lists) {
      std::uint32_t const count = counts[list];
      std::uint64_t const left = left_bytes[list];
      std::uint64_t const affordable = affordable_granules(left, granule_bytes);
      std::uint32_t const keep =
          affordable < count ? static_cast<std::uint32_t>(affordable) : count;
      own = (std::uint64_t{count - keep} << 32) | keep;
      kept[list] = keep;
      left_bytes[list] = paid(left, keep * granule_bytes);
      deferred[list] += count - keep;
    }
    std::uint64_t prefix = 0;
    std::uint64_t sum = 0;
    Scan(storage).ExclusiveSum(own, prefix, sum);
    if (list < lists) {
      places[list] = static_cast<std::uint32_t>(before + prefix);
    }
    before += sum;
    __syncthreads();  // the storage is used again
  }
  if (threadIdx.x == 0) {
    totals[0] = static_cast<std::uint32_t>(before);
    totals[1] = static_cast<std::uint32_t>(before >> 32);
  }
}

/// @brief Copies what is kept of each list and shows the rest to `carry`. blockIdx.x strides over
/// lists, blockIdx.y over the jobs of a list.
template <int Threads, class Carry>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void list_kept_kernel(
    Span<MoveJob const> jobs, Span<std::uint32_t const> begins, Span<std::uint32_t const> counts,
    std::uint32_t const* kept, std::uint32_t const* places, Span<MoveJob> out, Carry carry) {
  for (std::size_t list = blockIdx.x; list < counts.size(); list += gridDim.x) {
    std::uint32_t const begin = begins[list];
    std::uint32_t const count = counts[list];
    std::uint32_t const keep = kept[list];
    std::uint32_t const place = places[list];
    for (std::uint32_t i = blockIdx.y * Threads + threadIdx.x; i < count;
         i += gridDim.y * Threads) {
      if (i < keep) {
        reinterpret_cast<uint4*>(out.data())[place + i] =
            reinterpret_cast<uint4 const*>(jobs.data())[begin + i];
      } else {
        carry(load_job(jobs.data() + begin + i));
      }
    }
  }
}

/// @brief A sequence's budget dealt to its lanes, a block each; as host::plan_transfers(). Lanes
/// that had to defer come first, then the others, both from lane `step % lanes` round.
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void plan_transfers_kernel(Span<std::uint32_t const> deferred,
                                        Span<std::uint32_t const> steps, std::uint32_t lanes,
                                        std::uint64_t granules, std::uint64_t granule_bytes,
                                        Span<std::uint64_t> allotments) {
  using Scan = cub::BlockScan<std::uint32_t, Threads, cub::BLOCK_SCAN_WARP_SCANS>;
  __shared__ typename Scan::TempStorage storage;
  std::size_t const first = static_cast<std::size_t>(blockIdx.x) * lanes;
  std::uint64_t const each = granules / lanes;
  auto const rest = static_cast<std::uint32_t>(granules % lanes);
  std::uint32_t const start = steps[blockIdx.x] % lanes;
  std::uint32_t all_waiting = 0;
  for (std::uint32_t lane = threadIdx.x; lane < lanes; lane += Threads) {
    all_waiting += deferred[first + lane] > 0 ? 1U : 0U;
  }
  std::uint32_t prefix = 0;
  std::uint32_t total = 0;
  Scan(storage).ExclusiveSum(all_waiting, prefix, total);
  std::uint32_t before = 0;  // waiting lanes of the tiles before
  for (std::uint32_t tile = 0; tile < lanes; tile += Threads) {
    std::uint32_t const turn = tile + threadIdx.x;
    std::uint32_t lane = start + turn;  // both below `lanes`, so that once round is enough
    lane -= lane >= lanes ? lanes : 0;
    std::uint32_t const waits = turn < lanes && deferred[first + lane] > 0 ? 1U : 0U;
    __syncthreads();  // the storage is used again
    std::uint32_t sum = 0;
    Scan(storage).ExclusiveSum(waits, prefix, sum);
    if (turn < lanes) {
      std::uint32_t const waiting_before = before + prefix;
      std::uint32_t const rank = waits != 0 ? waiting_before : total + turn - waiting_before;
      allotments[first + lane] = (each + (rank < rest ? 1U : 0U)) * granule_bytes;
    }
    before += sum;
  }
}

/// No limit: as where the host deals nothing.
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void allow_everything_kernel(Span<std::uint64_t> allotments) {
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * Threads + threadIdx.x;
  if (i < allotments.size()) {
    allotments[i] = unlimited;
  }
}

}  // namespace kvfreeze::gpu::detail
