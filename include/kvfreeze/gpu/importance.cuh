#pragma once

#include <kvfreeze/gpu/detail/digest_shape.cuh>
#include <kvfreeze/gpu/detail/importance_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/importance_lane.cuh>
#include <kvfreeze/gpu/memory.cuh>

#include <cuda/stream_ref>

namespace kvfreeze::gpu {

/// @brief Adds the squares of new queries to the sums by channel of many lanes, in one launch.
///
/// The same floats to the bit as host::note_importance adds up. Sums start at zero when a sequence
/// is opened; a step's queries must be noted once.
/// @param lanes in device memory, at most 2^31 - 1; what they point to must stay until the work is
///   done
/// @param heads query heads of a KV head, in [1, 64]
/// @param dim a multiple of 8 in [8, 512]
/// @throws InvalidArgument if a number is out of range; CudaError
/// @complexity O(tokens * heads * dim), channels side by side
template <Element T>
void note_importance_async(Span<ImportanceLane<T> const> lanes, int heads, int dim,
                           ::cuda::stream_ref stream) {
  constexpr int threads = 128;
  detail::check_heads("note_importance", heads);
  detail::check_dim("note_importance", dim);
  if (lanes.empty()) {
    return;
  }
  detail::importance_kernel<T, threads>
      <<<static_cast<unsigned>(lanes.size()), threads, 0, stream.get()>>>(lanes.data(), heads, dim);
  check_launch("importance_kernel");
}

}  // namespace kvfreeze::gpu
