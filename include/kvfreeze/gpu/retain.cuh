#pragma once

/// @file
/// @brief A scheduler's selections carried out on the device's slow clock: which exact granules
/// stay, and which are low.

#include <kvfreeze/gpu/detail/retain_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/retain_lane.cuh>

#include <cuda/stream_ref>

#include <string>

namespace kvfreeze::gpu {

/// @brief Marks what the scheduler retains of each lane's exact open granules, and lists the others
/// in the order of positions.
///
/// host::mark_retained and host::list_stale, to the bit: counts and quantiles are exact, equal
/// scores are wanted by position, older first. One launch for all lanes, a block each. Nothing is
/// waited for; arrays and what `lanes` points to must live until the stream has done the work.
/// @param lanes a DescribedRetains, or a type with the same member
/// @param results [lanes]
/// @throws InvalidArgument, CudaError
/// @complexity O(granules) a lane, by one block: one pass, four for counts, quantiles and masses
template <SchedulerPolicy Scheduler, class Lanes>
void retain_async(Scheduler const& scheduler, Lanes const& lanes, Span<RetainResult> results,
                  ::cuda::stream_ref stream) {
  if (results.size() > 0x7FFFFFFFU) {
    throw InvalidArgument("retain: results has " + std::to_string(results.size()) +
                          " elements, expected fewer than 2^31");
  }
  if (results.empty()) {
    return;
  }
  detail::retain_kernel<<<static_cast<unsigned>(results.size()), detail::retain_threads, 0,
                          stream.get()>>>(scheduler, lanes, results.data());
  check_launch("retain_kernel");
}

}  // namespace kvfreeze::gpu
