#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/error.cuh>

#include <cuda/stream_ref>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>
#include <string>

namespace kvfreeze::gpu {

namespace detail {

/// @brief All copies in one call of the driver. @return cudaErrorNotSupported and the like where
/// the driver is older than the call
inline cudaError_t copy_as_batch(std::span<void* const> to, std::span<void const* const> from,
                                 std::span<std::size_t const> bytes, cudaStream_t stream) {
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
  std::size_t first = 0;  // the attributes are those of all copies
#if CUDART_VERSION >= 13000
  return cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), to.size(), &attributes, &first,
                              1, stream);
#else
  std::size_t failed = 0;
  return cudaMemcpyBatchAsync(const_cast<void**>(to.data()),
                              const_cast<void**>(reinterpret_cast<void* const*>(from.data())),
                              const_cast<std::size_t*>(bytes.data()), to.size(), &attributes,
                              &first, 1, &failed, stream);
#endif
}

}  // namespace detail

/// @brief Copies blocks whose addresses the host knows, by the copy engines: for large blocks.
/// Below some 28 KiB a block the engines lose to thaw_async() and freeze_async().
///
/// One call of the driver (cudaMemcpyBatchAsync); a call for each block where the driver does not
/// have that, while the stream is captured, and on the legacy default stream.
/// @param to, from, bytes of each copy, as many of each; on either side device or pinned memory.
/// Read before the call returns. No copy may read what another one writes.
/// @throws InvalidArgument if the lengths differ or a copy has no bytes; nothing was enqueued
/// @throws CudaError
/// @stream_semantics asynchronous if host memory is pinned
inline void copy_batch_async(std::span<void* const> to, std::span<void const* const> from,
                             std::span<std::size_t const> bytes, ::cuda::stream_ref stream) {
  if (to.size() != from.size() || to.size() != bytes.size()) {
    throw InvalidArgument("copy_batch_async: " + std::to_string(to.size()) + " destinations, " +
                          std::to_string(from.size()) + " sources and " +
                          std::to_string(bytes.size()) + " sizes");
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == 0) {
      throw InvalidArgument("copy_batch_async: bytes[" + std::to_string(i) + "] is 0");
    }
  }
  if (to.empty()) {
    return;
  }
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream.get(), &capture), "cudaStreamIsCapturing");
  bool const legacy = stream.get() == nullptr || stream.get() == cudaStreamLegacy;
  if (capture == cudaStreamCaptureStatusNone && !legacy) {
    cudaError_t const status = detail::copy_as_batch(to, from, bytes, stream.get());
    if (status != cudaErrorNotSupported && status != cudaErrorCallRequiresNewerDriver) {
      check(status, "cudaMemcpyBatchAsync");
      return;
    }
    static_cast<void>(cudaGetLastError());
  }
  for (std::size_t i = 0; i < to.size(); ++i) {
    check(cudaMemcpyAsync(to[i], from[i], bytes[i], cudaMemcpyDefault, stream.get()),
          "cudaMemcpyAsync");
  }
}

}  // namespace kvfreeze::gpu
