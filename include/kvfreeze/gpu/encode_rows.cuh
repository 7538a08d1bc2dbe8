#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/gpu/code_job.cuh>
#include <kvfreeze/gpu/detail/digest_shape.cuh>
#include <kvfreeze/gpu/detail/encode_rows_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>

#include <cuda/stream_ref>

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace kvfreeze::gpu {

/// @brief Codes exact rows for the pools of a compact level, for many lanes in one launch: values
/// less the lane's means, rotated, in `ValueBits` bits, and `Residual` bits of the key below its
/// digest.
///
/// The bytes that the host's pools hold: subtract, rotate, encode_values; encode_residual.
/// @tparam Digest NestedKeyCodes where Residual is not 0
/// @tparam ValueBits 2, 4 or 8
/// @tparam Residual 0, 2 or 4
/// @param jobs in device memory; they and what they point to must stay until the work is done
/// @param count of jobs, one number in device memory; null: all. Those beyond jobs.size() are not
///   done
/// @param dim a multiple of 8 in [8, 512]
/// @throws InvalidArgument if dim is out of range or there are 2^31 jobs; CudaError
/// @complexity O(dim) for each job
template <DigestPolicy Digest, int ValueBits, int Residual, Element T>
void encode_rows_async(Span<CodeJob<T> const> jobs, std::uint32_t const* count, int dim,
                       ::cuda::stream_ref stream) {
  constexpr int threads = 128;
  detail::check_dim("encode_rows", dim);
  if (jobs.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw InvalidArgument("encode_rows: " + std::to_string(jobs.size()) +
                          " jobs are more than one launch does");
  }
  if (jobs.empty()) {
    return;
  }
  auto const most = static_cast<std::uint32_t>(jobs.size());
  auto const blocks = (most + threads / 16 - 1) / (threads / 16);
  auto const launch = [&](auto blocks_of_64) {
    detail::encode_rows_kernel<Digest, ValueBits, Residual, blocks_of_64(), T, threads>
        <<<blocks, threads, 0, stream.get()>>>(jobs.data(), most, count, dim);
  };
  if (dim <= 64) {
    launch(std::integral_constant<int, 1>{});
  } else if (dim <= 128) {
    launch(std::integral_constant<int, 2>{});
  } else if (dim <= 256) {
    launch(std::integral_constant<int, 4>{});
  } else {
    launch(std::integral_constant<int, 8>{});
  }
  check_launch("encode_rows_kernel");
}

/// @brief `encode_rows_async` of all jobs, waited for.
template <DigestPolicy Digest, int ValueBits, int Residual, Element T>
void encode_rows(Span<CodeJob<T> const> jobs, int dim, ::cuda::stream_ref stream) {
  encode_rows_async<Digest, ValueBits, Residual, T>(jobs, nullptr, dim, stream);
  stream.wait();
}

}  // namespace kvfreeze::gpu
