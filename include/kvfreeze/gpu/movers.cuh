#pragma once

/// @file
/// @brief Rows between the pool on the device and mapped host memory, as many as a counter on the
/// device says: the host neither knows nor waits.

#include <kvfreeze/gpu/detail/launch_movers.cuh>
#include <kvfreeze/gpu/granule_pool.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/move_job.cuh>
#include <kvfreeze/gpu/tier_slots.cuh>

#include <cuda/stream_ref>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Copies rows from the tier into the pool.
///
/// Jobs are independent: no two may write the same row, their order does not matter. Jobs name open
/// sequences, lanes, granules and slots that there are; kernels do not check them again.
///
/// @param jobs [most], on the device
/// @param count [1], on the device: how many of them there are; more than `jobs` holds count as all
/// @param tier where the granules lie; the slabs must stay until the stream has passed
/// @param pool where they go; same bytes in a granule as in the tier
/// @param moved_bytes [sequences * lanes], on the device, or empty: bytes of each lane's jobs are
/// added
/// @throws InvalidArgument naming the argument and the numbers, before anything is launched
/// @throws CudaError if the launch fails
/// @stream_semantics asynchronous, one launch, may be captured in a graph
/// @complexity O(bytes)
inline void thaw_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                       TierSlots const& tier, GranulePool const& pool,
                       Span<std::uint64_t> moved_bytes, ::cuda::stream_ref stream) {
  detail::check_move("thaw_async", jobs, count, tier.geometry, pool, moved_bytes);
  detail::launch_move<true>(detail::move_arguments(jobs, count, tier.geometry, pool, moved_bytes),
                            detail::SlabPlaces{tier.slabs.data(), tier.geometry.granules},
                            stream.get());
}

/// @brief Copies rows from the pool into the tier: of granules that freeze and are not there yet,
/// or newly appended ones. As thaw_async() otherwise.
inline void freeze_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                         GranulePool const& pool, TierSlots const& tier,
                         Span<std::uint64_t> moved_bytes, ::cuda::stream_ref stream) {
  detail::check_move("freeze_async", jobs, count, tier.geometry, pool, moved_bytes);
  detail::launch_move<false>(detail::move_arguments(jobs, count, tier.geometry, pool, moved_bytes),
                             detail::SlabPlaces{tier.slabs.data(), tier.geometry.granules},
                             stream.get());
}

}  // namespace kvfreeze::gpu
