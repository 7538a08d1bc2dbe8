#pragma once

/// @file
/// @brief Checks of segments on the host. What lies on the device is only looked at by functions
/// that wait.

#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/segments.cuh>
#include <kvfreeze/host/kernels/segments.hpp>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvfreeze::gpu::detail {

/// @brief What the span holds when the stream's work is done. Waits.
template <class T>
std::vector<T> read_back(Span<T const> span, ::cuda::stream_ref stream) {
  std::vector<T> values(span.size());
  if (!span.empty()) {
    check(cudaMemcpyAsync(values.data(), span.data(), span.size_bytes(), cudaMemcpyDeviceToHost,
                          stream.get()),
          "cudaMemcpyAsync");
  }
  check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  return values;
}

/// @throws InvalidArgument if a launch cannot have a block for each segment
inline void check_segment_count(char const* function, std::size_t count) {
  constexpr std::size_t most = std::size_t{1} << 30;
  if (count > most) {
    throw InvalidArgument(std::string(function) + ": there are " + std::to_string(count) +
                          " segments, expected at most " + std::to_string(most));
  }
}

/// @brief Looks at the offsets. Waits.
/// @throws InvalidArgument as the host's functions do
inline void check_segments(char const* function, Segments const& batch, std::size_t size,
                           ::cuda::stream_ref stream) {
  auto const offsets = read_back(batch.offsets, stream);
  host::detail::check_segments(function, offsets, size);
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    if (offsets[s + 1] - offsets[s] > batch.longest) {
      throw InvalidArgument(std::string(function) + ": segment " + std::to_string(s) + " has " +
                            std::to_string(offsets[s + 1] - offsets[s]) +
                            " elements, expected at most " + std::to_string(batch.longest));
    }
  }
}

}  // namespace kvfreeze::gpu::detail
