#pragma once

/// @file
/// @brief Recall scores of |q.k| from logits, for scorers that go by dot products.

#include <kvfreeze/gpu/detail/dot_scores_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/masses.cuh>

#include <cuda/stream_ref>

#include <string>

namespace kvfreeze::gpu {

/// @brief |q.k| of each row in units of 2^-12 nats, mean over heads; of granules with several rows
/// the largest. What host::estimate_scores makes for Evidence::queries, to the bit.
///
/// Written where the runs of `lanes` have their masses; 0 for rows whose logits are minus infinity
/// or that do not take part. One launch for all lanes. Nothing is waited for; all arrays and what
/// `lanes` points to must live until the stream has done the work.
/// @param lanes a DescribedLanes, or a type with the same members
/// @param batch `largest_keys` is not looked at
/// @param dot_limit nats at which a head's |q.k| is clamped, host::Geometry::dot_limit; in
///   [0, 2^20 / heads)
/// @throws InvalidArgument, CudaError
/// @complexity O(heads * rows) a lane
template <class Lanes>
void dot_scores_async(Lanes const& lanes, MassBatch const& batch, float dot_limit,
                      ::cuda::stream_ref stream) {
  detail::check_mass_batch(batch);
  if (!(dot_limit >= 0.0F && dot_limit * static_cast<float>(batch.heads) < 0x1p20F)) {
    throw InvalidArgument("dot_scores: dot_limit is " + std::to_string(dot_limit) + " for " +
                          std::to_string(batch.heads) +
                          " heads, expected a number in [0, 2^20 / heads)");
  }
  if (batch.lanes == 0) {
    return;
  }
  dim3 const grid(static_cast<unsigned>(detail::rank_blocks(batch.lanes, batch.max_rows)),
                  static_cast<unsigned>(batch.lanes));
  detail::dot_scores_kernel<<<grid, detail::rank_threads, 0, stream.get()>>>(
      lanes, batch.heads, detail::page_shift(batch.page_tokens), dot_limit);
  check_launch("dot_scores_kernel");
}

}  // namespace kvfreeze::gpu
