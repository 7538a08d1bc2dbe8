#pragma once

/// @file
/// @brief Kernels that move rows between device memory and mapped host memory.
///
/// A row goes through registers, 16 bytes a thread. 8, 16 or 32 threads work on a job, so that each
/// request to the host spans 128 bytes or more: a link carries smaller ones at the same price.
/// Up to four loads of each thread are under way before the first store: latency to the host is 1
/// to 2 microseconds, so what counts is how many bytes are asked for at a time.

#include <kvfreeze/gpu/move_job.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int mover_threads = 256;
inline constexpr int mover_unroll = 4;

/// Loads under way at a time: 1 MiB of rows of 128 to 512 bytes, up to 4 MiB of larger ones. A link
/// of 64 GB/s needs some 128 KiB, one of 450 GB/s 500 KiB; more blocks would only take the place of
/// other kernels.
inline constexpr unsigned mover_blocks = 256;

/// What the kernels of a move need to know of the list and the pool; lengths in units of 16 bytes.
struct MoveArguments {
  MoveJob const* jobs = nullptr;
  std::uint32_t const* count = nullptr;
  std::uint32_t first = 0;  ///< jobs [first, first + most) of those that there are
  std::uint32_t most = 0;
  std::uint32_t row_units = 0;   ///< K of a row
  std::uint32_t part_units = 0;  ///< K of a granule
  uint4* pool = nullptr;
  std::size_t page_units = 0;
  std::size_t values_units = 0;
  std::uint32_t page_shift = 0;         ///< log2 of the pool's page_slots
  std::uint32_t lanes = 0;              ///< of a sequence
  unsigned long long* moved = nullptr;  ///< [sequence][lane], bytes; null: not counted
};

// Where the host has a job's granule, [K][V]: called with the job, its index from `first` on, its
// lane among those of all sequences, and the units of a granule. Null: nowhere, nothing moves.

/// A slab for each sequence: [lane][granule].
struct SlabPlaces {
  std::byte* const* slabs = nullptr;
  std::uint32_t granules = 0;  ///< of a lane

  __device__ uint4* operator()(MoveJob const& job, std::uint32_t, std::size_t,
                               std::size_t granule_units) const {
    return reinterpret_cast<uint4*>(slabs[job.sequence]) +
           (std::size_t{job.lane} * granules + job.granule) * granule_units;
  }
};

/// A buffer with room for each job.
struct StagedPlaces {
  uint4* buffer = nullptr;

  __device__ uint4* operator()(MoveJob const&, std::uint32_t i, std::size_t,
                               std::size_t granule_units) const {
    return buffer + std::size_t{i} * granule_units;
  }
};

__device__ inline MoveJob load_job(MoveJob const* job) {
  uint4 const raw = *reinterpret_cast<uint4 const*>(job);
  return {raw.x,
          raw.y,
          raw.z,
          static_cast<std::uint16_t>(raw.w & 0xFFFFU),
          static_cast<std::uint8_t>((raw.w >> 16) & 0xFFU),
          static_cast<std::uint8_t>(raw.w >> 24)};
}

/// Jobs in [first, first + most) of a list whose length lies on the device.
__device__ inline std::uint32_t jobs_here(std::uint32_t count, std::uint32_t first,
                                          std::uint32_t most) {
  return count <= first ? 0 : min(count - first, most);
}

/// @brief Moves one stretch of 16-byte units of [K][V] that lie apart on both sides. Called by
/// `Group` threads together; the device function for kernels of their own.
/// @param thread of the group, in [0, Group)
/// @param begin first unit of this call; it moves at most Group * mover_unroll units
/// @param half units of K, and of V
/// @param from_gap, to_gap units by which V lies further away than right behind K
/// @tparam ToPool rows that come are read soon; those that leave are not
template <bool ToPool, int Group>
__device__ inline void move_units(uint4 const* from, std::size_t from_gap, uint4* to,
                                  std::size_t to_gap, unsigned half, unsigned begin,
                                  unsigned thread) {
  uint4 held[mover_unroll];
#pragma unroll
  for (int i = 0; i < mover_unroll; ++i) {
    unsigned const unit = begin + thread + static_cast<unsigned>(i * Group);
    if (unit < 2 * half) {
      held[i] = __ldcs(from + unit + (unit < half ? 0 : from_gap));
    }
  }
#pragma unroll
  for (int i = 0; i < mover_unroll; ++i) {
    unsigned const unit = begin + thread + static_cast<unsigned>(i * Group);
    if (unit < 2 * half) {
      uint4* const place = to + unit + (unit < half ? 0 : to_gap);
      if constexpr (ToPool) {
        *place = held[i];
      } else {
        __stcs(place, held[i]);
      }
    }
  }
}

/// @brief Carries jobs out: a group of threads for each job and stretch of it. blockIdx.y is the
/// stretch, groups stride over the jobs.
template <bool ToPool, int Group, class Places>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(mover_threads) void move_kernel(
    MoveArguments a, Places places) {
  constexpr unsigned groups = mover_threads / Group;
  unsigned const thread = threadIdx.x % Group;
  unsigned const begin = blockIdx.y * static_cast<unsigned>(Group * mover_unroll);
  std::uint32_t const jobs = jobs_here(*a.count, a.first, a.most);
  for (std::uint32_t i = blockIdx.x * groups + threadIdx.x / Group; i < jobs;
       i += gridDim.x * groups) {
    MoveJob const job = load_job(a.jobs + a.first + i);
    std::size_t const lane = std::size_t{job.sequence} * a.lanes + job.lane;
    uint4* const granule = places(job, i, lane, 2 * std::size_t{a.part_units});
    if (granule == nullptr) {
      continue;
    }
    std::uint32_t const half = job.rows * a.row_units;
    std::uint32_t const row = job.first_row * a.row_units;
    std::uint32_t const within = job.slot & ((1U << a.page_shift) - 1U);
    uint4* const host = granule + row;
    uint4* const pool = a.pool + static_cast<std::size_t>(job.slot >> a.page_shift) * a.page_units +
                        std::size_t{within} * a.part_units + row;
    std::size_t const pool_gap = a.values_units - half;
    std::size_t const host_gap = a.part_units - half;
    if constexpr (ToPool) {
      move_units<ToPool, Group>(host, host_gap, pool, pool_gap, half, begin, thread);
    } else {
      move_units<ToPool, Group>(pool, pool_gap, host, host_gap, half, begin, thread);
    }
    if (blockIdx.y == 0 && thread == 0 && a.moved != nullptr) {
      atomicAdd(a.moved + lane, 32ULL * half);
    }
  }
}

/// What the host is told of jobs that it is to carry out; in mapped memory, jobs behind it.
struct alignas(16) StagingHeader {
  std::uint32_t count = 0;
  std::uint32_t row_bytes = 0;
  std::uint32_t granule_bytes = 0;
  std::uint32_t unused = 0;
};

/// @brief Writes jobs [first, first + most) to mapped host memory.
template <int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void publish_jobs_kernel(MoveArguments a, StagingHeader* header, MoveJob* published) {
  std::uint32_t const jobs = jobs_here(*a.count, a.first, a.most);
  std::uint32_t const index = blockIdx.x * Threads + threadIdx.x;
  if (index == 0) {
    *header = {jobs, a.row_units * 16U, a.part_units * 32U, 0};
  }
  for (std::uint32_t i = index; i < jobs; i += gridDim.x * Threads) {
    reinterpret_cast<uint4*>(published)[i] = reinterpret_cast<uint4 const*>(a.jobs)[a.first + i];
  }
}

/// Enters a slab into the table, in the order of the stream.
template <class Byte>
__global__ __attribute__((visibility("hidden"))) void set_slab_kernel(Byte** entry, Byte* slab) {
  *entry = slab;
}

}  // namespace kvfreeze::gpu::detail
