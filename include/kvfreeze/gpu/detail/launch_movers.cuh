#pragma once

/// @file
/// @brief What the movers' launches have in common.

#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/detail/mover_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/granule_pool.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/tier_slots.cuh>

#include <cuda/stream_ref>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace kvfreeze::gpu::detail {

/// @throws InvalidArgument naming the field, if the movers cannot work with a tier's geometry
/// @throws OutOfMemory if a sequence exceeds the address space
inline void check_tier_geometry(TierGeometry const& g) {
  auto const reject = [](char const* field, std::size_t value, char const* rule) {
    throw InvalidArgument(std::string("TierGeometry::") + field + " is " + std::to_string(value) +
                          ", must be " + rule);
  };
  if (g.sequences < 1 || g.sequences > 65536) {
    reject("sequences", g.sequences, "in [1, 65536]");
  }
  if (g.lanes < 1) {
    reject("lanes", g.lanes, "positive");
  }
  if (g.granules < 1) {
    reject("granules", g.granules, "positive");
  }
  if (g.part_bytes == 0 || g.part_bytes % 16 != 0) {
    reject("part_bytes", g.part_bytes, "a positive multiple of 16");
  }
  std::size_t const lane = array_bytes(g.granules, array_bytes(2, g.part_bytes));
  static_cast<void>(array_bytes(g.lanes, lane));
}

/// @throws InvalidArgument naming the argument and the numbers
inline void check_move(char const* function, Span<MoveJob const> jobs,
                       Span<std::uint32_t const> count, TierGeometry const& geometry,
                       GranulePool const& pool, Span<std::uint64_t> moved_bytes) {
  auto const reject = [&](std::string const& what) {
    throw InvalidArgument(std::string(function) + ": " + what);
  };
  check_pool(function, pool);
  if (count.size() != 1) {
    reject("count has " + std::to_string(count.size()) + " elements, expected 1");
  }
  if (jobs.size() > std::numeric_limits<std::uint32_t>::max()) {
    reject("jobs has " + std::to_string(jobs.size()) + " elements, more than 2^32 - 1");
  }
  if (geometry.part_bytes != pool.part_bytes()) {
    reject("K of a granule has " + std::to_string(pool.part_bytes()) + " bytes in the pool and " +
           std::to_string(geometry.part_bytes) + " in the tier");
  }
  std::size_t const lanes = std::size_t{geometry.sequences} * geometry.lanes;
  if (!moved_bytes.empty() && moved_bytes.size() != lanes) {
    reject("moved_bytes has " + std::to_string(moved_bytes.size()) + " elements, expected " +
           std::to_string(lanes) + ", one for each lane of each sequence, or none");
  }
}

inline MoveArguments move_arguments(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                                    TierGeometry const& geometry, GranulePool const& pool,
                                    Span<std::uint64_t> moved_bytes) {
  MoveArguments a;
  a.jobs = jobs.data();
  a.count = count.data();
  a.most = static_cast<std::uint32_t>(jobs.size());
  a.row_units = pool.row_bytes / 16;
  a.part_units = static_cast<std::uint32_t>(pool.part_bytes() / 16);
  a.pool = reinterpret_cast<uint4*>(pool.memory.data());
  a.page_units = pool.page_bytes / 16;
  a.values_units = pool.values_offset / 16;
  a.page_shift = static_cast<std::uint32_t>(std::countr_zero(pool.page_slots));
  a.lanes = geometry.lanes;
  static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
  a.moved = reinterpret_cast<unsigned long long*>(moved_bytes.data());
  return a;
}

/// @brief Threads that work on a job together: as many as there are 16-byte units, at most a warp,
/// at least 8; fewer where more would leave over an eighth of them idle.
constexpr int mover_group(std::uint32_t units) noexcept {
  for (std::uint32_t const group : {32U, 16U}) {
    if (units >= group && (units + group - 1) / group * group * 8 <= units * 9) {
      return static_cast<int>(group);
    }
  }
  return 8;
}

template <bool ToPool, int Group, class Places>
void launch_move_kernel(MoveArguments const& a, Places const& places, cudaStream_t stream) {
  constexpr std::uint32_t groups = mover_threads / Group;
  constexpr std::uint32_t stretch = Group * mover_unroll;
  std::uint32_t const stretches = (2 * a.part_units + stretch - 1) / stretch;
  std::uint32_t const wanted = (a.most - 1) / groups + 1;
  dim3 const grid(std::min(wanted, std::max(mover_blocks / stretches, 1U)), stretches);
  move_kernel<ToPool, Group><<<grid, mover_threads, 0, stream>>>(a, places);
  check_launch("move_kernel");
}

/// @param places where the host has the granules
template <bool ToPool, class Places>
void launch_move(MoveArguments const& a, Places const& places, cudaStream_t stream) {
  if (a.most == 0) {
    return;
  }
  switch (mover_group(2 * a.part_units)) {
    case 32:
      return launch_move_kernel<ToPool, 32>(a, places, stream);
    case 16:
      return launch_move_kernel<ToPool, 16>(a, places, stream);
    default:
      return launch_move_kernel<ToPool, 8>(a, places, stream);
  }
}

}  // namespace kvfreeze::gpu::detail
