#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/gpu/detail/digest_shape.cuh>
#include <kvfreeze/gpu/detail/encode_kernels.cuh>
#include <kvfreeze/gpu/encode_job.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>

#include <cuda/stream_ref>

#include <limits>
#include <string>

namespace kvfreeze::gpu {

/// @brief Makes digest groups of exact rows, for a batch of lanes in one launch.
///
/// The bytes that Digest::encode makes on the host. An `importance` without a positive entry is
/// that of a lane without queries: all channels are alike.
/// @tparam Digest KeyCodes, NestedKeyCodes, BoxDigest, CuboidDigest, MeanKeyDigest, ExactKeys or
///   PartialKeys
/// @param jobs in device memory; they and what they point to must stay until the work is done
/// @param dim a multiple of 8 in [8, 512]
/// @throws InvalidArgument if dim is out of range or there are 2^31 jobs; CudaError
/// @complexity O(group_rows * dim) for each job; reads keys twice, the second time from the cache
template <DigestPolicy Digest, Element T>
  requires(Digest::group_rows > 0)
void encode_async(Span<EncodeJob<T> const> jobs, int dim, ::cuda::stream_ref stream) {
  constexpr int threads = 128;
  detail::check_dim("encode", dim);
  if (jobs.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw InvalidArgument("encode: " + std::to_string(jobs.size()) +
                          " jobs are more than one launch does");
  }
  if (jobs.empty()) {
    return;
  }
  detail::encode_kernel<Digest, T, threads>
      <<<static_cast<unsigned>(jobs.size()), threads, 0, stream.get()>>>(jobs.data(), dim);
  check_launch("encode_kernel");
}

/// @brief `encode_async`, waited for.
template <DigestPolicy Digest, Element T>
  requires(Digest::group_rows > 0)
void encode(Span<EncodeJob<T> const> jobs, int dim, ::cuda::stream_ref stream) {
  encode_async<Digest, T>(jobs, dim, stream);
  stream.wait();
}

}  // namespace kvfreeze::gpu
