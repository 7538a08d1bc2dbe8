#pragma once

/// @file
/// @brief The check that only the waiting `top_k` makes: is a score NaN?

#include <kvfreeze/gpu/detail/radix_select_kernels.cuh>

#include <cuda/stream_ref>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu::detail {

/// nans += how many of the scores are NaN.
template <class T>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(256)
    count_nans_kernel(Span<T const> scores, std::uint32_t* nans) {
  std::uint32_t found = 0;
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < scores.size();
       i += std::size_t{gridDim.x} * blockDim.x) {
    found += scores[i] == scores[i] ? 0U : 1U;
  }
  found = __reduce_add_sync(0xFFFFFFFFU, found);
  if (threadIdx.x % 32 == 0 && found != 0) {
    atomicAdd(nans, found);
  }
}

/// @brief Everything that may be wrong, before anything is written. Waits.
/// @throws InvalidArgument
inline void check_top_k(Span<float const> scores, Segments const& batch,
                        Span<std::uint8_t> selected, Span<std::byte> workspace,
                        ::cuda::stream_ref stream) {
  check_select<TopKRule>("top_k", scores.size(), batch, {selected}, workspace);
  check_segments("top_k", batch, scores.size(), stream);
  if (scores.empty()) {
    return;
  }
  auto* const nans = reinterpret_cast<std::uint32_t*>(workspace.data());
  check(cudaMemsetAsync(nans, 0, sizeof(*nans), stream.get()), "cudaMemsetAsync");
  auto const blocks = static_cast<unsigned>(std::min<std::size_t>(scores.size() / 2048 + 1, 1024));
  count_nans_kernel<<<blocks, 256, 0, stream.get()>>>(scores, nans);
  check_launch("count_nans_kernel");
  if (read_back(Span<std::uint32_t const>(nans, 1), stream).front() == 0) {
    return;
  }
  auto const values = read_back(scores, stream);
  auto const first =
      std::find_if(values.begin(), values.end(), [](float x) { return std::isnan(x); });
  throw InvalidArgument("top_k: scores[" + std::to_string(first - values.begin()) + "] is NaN");
}

}  // namespace kvfreeze::gpu::detail
