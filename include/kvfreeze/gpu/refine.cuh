#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/gpu/detail/digest_shape.cuh>
#include <kvfreeze/gpu/detail/refine_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/refine_lane.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <limits>
#include <string>

namespace kvfreeze::gpu {

namespace detail {

template <class Digest, int Residual>
void refine_rows(RefineLane const* lanes, RefineLane const& only, std::size_t count,
                 std::size_t most_rows, int heads, int dim, ::cuda::stream_ref stream) {
  check_heads("refine", heads);
  check_dim("refine", dim);
  int warps = most_refine_threads / 32;
  while (warps > 1 && refine_bytes<Digest, Residual>(warps, dim) > default_shared_bytes) {
    warps /= 2;
  }
  auto const threads = static_cast<unsigned>(32 * warps);
  std::size_t const chunks = (most_rows + threads - 1) / threads;
  std::size_t const blocks = chunks * count;
  if (blocks > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw InvalidArgument("refine: " + std::to_string(count) + " lanes of " +
                          std::to_string(most_rows) + " rows are more than one launch refines");
  }
  if (blocks == 0) {
    return;
  }
  refine_kernel<Digest, Residual>
      <<<static_cast<unsigned>(blocks), threads, refine_bytes<Digest, Residual>(warps, dim),
         stream.get()>>>(lanes, only, static_cast<unsigned>(chunks), heads, dim);
  check_launch("refine_kernel");
}

}  // namespace detail

/// @brief Turns the screen's logits of pooled rows into those of their longer codes, for many lanes
/// in one launch. May gather the screen's logits too.
///
/// The same floats to the bit as Digest::refine gives on the host.
/// @tparam Digest NestedKeyCodes
/// @tparam Residual bits below the screen's, 2 or 4
/// @param lanes in device memory; what they point to must stay until the work is done
/// @param heads query heads of a lane, in [1, 64]
/// @param dim a multiple of 8 in [8, 512]
/// @param most_rows the largest RefineLane::count
/// @throws InvalidArgument if a number is out of range; CudaError
/// @complexity O(rows * heads * dim), and as much again for about ten rows at each change of group
template <DigestPolicy Digest, int Residual>
void refine_async(Span<RefineLane const> lanes, int heads, int dim, std::size_t most_rows,
                  ::cuda::stream_ref stream) {
  detail::refine_rows<Digest, Residual>(lanes.data(), {}, lanes.size(), most_rows, heads, dim,
                                        stream);
}

/// @brief The same for one lane, which the host knows, and waited for.
template <DigestPolicy Digest, int Residual>
void refine(RefineLane const& lane, int heads, int dim, ::cuda::stream_ref stream) {
  detail::refine_rows<Digest, Residual>(nullptr, lane, 1, lane.count, heads, dim, stream);
  stream.wait();
}

}  // namespace kvfreeze::gpu
