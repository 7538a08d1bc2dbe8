#pragma once

#include <kvfreeze/gpu/detail/step.cuh>

#include <cuda/std/limits>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The newest rows of a lane get logits of minus infinity: a query of a chunk does not see
/// those behind its own. By a block. @see host::hide_later_rows
/// @param hidden rows
template <class C>
__device__ void hide_rows(Geometry const& g, LaneRef<C> const& ref, LaneRuns const& runs,
                          int hidden) {
  int const seen = ref.lane->rows - hidden;
  // By position where digests are asked, else in the order of slots.
  int const rows = C::has_digest ? ref.lane->rows : exact_rows<C>(*ref.lane);
  for (int i = (C::has_digest ? seen : 0) + static_cast<int>(threadIdx.x); i < rows;
       i += static_cast<int>(blockDim.x)) {
    int position = i;
    if constexpr (!C::has_digest) {
      std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i / C::page)).granule;
      position = static_cast<int>(granule) * C::page + i % C::page;
    }
    for (int h = 0; position >= seen && h < g.lane_queries; ++h) {
      runs.logits[h * runs.stride + i] = -::cuda::std::numeric_limits<float>::infinity();
    }
  }
}

}  // namespace kvfreeze::gpu::detail
