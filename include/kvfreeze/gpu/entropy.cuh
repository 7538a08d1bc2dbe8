#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/entropy_kernels.cuh>
#include <kvfreeze/gpu/detail/segment_checks.cuh>
#include <kvfreeze/gpu/entropy_result.cuh>

#include <cuda/stream_ref>

#include <cstddef>

namespace kvfreeze::gpu {

/// @brief Bytes of workspace for `entropy` and `entropy_async`.
inline std::size_t entropy_workspace_bytes(std::size_t rows, std::size_t row_length) {
  return detail::entropy_workspace(rows, row_length);
}

/// @brief Entropy of softmax of each row of logits[rows][row_length]: exact (no sampling, no
/// truncation), stable for any magnitude.
///
/// Logits of -infinity have probability 0. Does not wait and does not allocate; may be captured in
/// a graph. All arguments must stay valid until the stream has come past. One launch for rows of up
/// to 4,096 logits, else two. A row has the same result to the bit in every batch, at any address
/// and on every device that runs the same code. Against host::entropy: `top_index` is equal;
/// `log_sum_exp` and `entropy_nats` differ by less than 5e-7 (1 + |x|), `top_probability` by less
/// than 5e-7 of itself. Exponentials are the host's to the bit, but relative to other maxima, and
/// four at a time are added as floats before doubles take over.
/// @param results [rows]; each says whether it is valid
/// @param workspace at least `entropy_workspace_bytes(rows, row_length)`
/// @throws InvalidArgument on sizes that do not fit, CudaError
/// @complexity O(logits), each read from memory once
template <Element T>
void entropy_async(Span<T const> logits, std::size_t row_length, Span<Entropy> results,
                   Span<std::byte> workspace, ::cuda::stream_ref stream) {
  detail::launch_entropy(logits, row_length, {}, results, workspace, stream);
}

/// @brief The same; `change` is the entropy's distance to the row's running mean.
/// @param means [rows] nats; a NaN where there is none yet, whose change is 0
template <Element T>
void entropy_async(Span<T const> logits, std::size_t row_length, Span<float const> means,
                   Span<Entropy> results, Span<std::byte> workspace, ::cuda::stream_ref stream) {
  host::detail::check_size("entropy", "means", means.size(), results.size());
  detail::launch_entropy(logits, row_length, means, results, workspace, stream);
}

/// @brief The same, waited for.
/// @throws InvalidArgument on sizes that do not fit; if a row has a NaN or +infinity, or only
///   -infinity: the results are written then
template <Element T>
void entropy(Span<T const> logits, std::size_t row_length, Span<Entropy> results,
             Span<std::byte> workspace, ::cuda::stream_ref stream) {
  entropy_async(logits, row_length, results, workspace, stream);
  for (Entropy const& result : detail::read_back(Span<Entropy const>(results), stream)) {
    detail::check_result(result, row_length);
  }
}

/// @brief Entropy of softmax(logits), waited for: the twin of host::entropy.
/// @param workspace at least `entropy_workspace_bytes(1, logits.size())`
/// @throws InvalidArgument if there are no logits, one is NaN or +infinity, or all are -infinity
template <Element T>
Entropy entropy(Span<T const> logits, Span<std::byte> workspace, ::cuda::stream_ref stream) {
  std::size_t const needed = entropy_workspace_bytes(1, logits.size());
  detail::check_workspace("entropy", workspace, needed);
  auto* const last = workspace.data() + needed - workspace_alignment;
  Span<Entropy> const result(reinterpret_cast<Entropy*>(last), 1);
  entropy_async(logits, logits.size(), result, workspace, stream);
  Entropy const found = detail::read_back(Span<Entropy const>(result), stream).front();
  detail::check_result(found, logits.size());
  return found;
}

}  // namespace kvfreeze::gpu
