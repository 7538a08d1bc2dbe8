#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/detail/merge_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>

#include <cuda/std/type_traits>
#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace kvfreeze::gpu {

/// @brief Joins two attentions of the same queries over different rows, as host::merge does: that
/// of a kernel of the caller's over exact rows, and decode_attention_async's with `compact_only`.
///
/// out = (out_a e^lse_a + out_b e^lse_b) / (e^lse_a + e^lse_b), and lse the logarithm of the
/// divisor. An lse of minus infinity stands for no rows; if neither has any, out is zeros. Within
/// 1e-6 * (|out_a| + |out_b|) of host::merge, before `out` is rounded to T. Mind that some kernels
/// (FlashInfer's) give their log-sum-exp to the base 2: natural ones are wanted here.
/// @tparam T element type of the caller's attention, and of the result
/// @param out_a, out_b, out [heads][dim]; `out` may be one of the others
/// @param lse_a, lse_b, lse [heads], natural; `lse` may be one of the others
/// @throws InvalidArgument if the sizes do not fit, CudaError if the launch fails; nothing was done
///   then
/// @stream_semantics enqueues one kernel; never waits, never allocates, may be captured
/// @complexity O(heads * dim)
template <Element T = float>
void merge_async(::cuda::std::type_identity_t<Span<T const>> out_a, Span<float const> lse_a,
                 Span<float const> out_b, Span<float const> lse_b,
                 ::cuda::std::type_identity_t<Span<T>> out, Span<float> lse,
                 ::cuda::stream_ref stream) {
  std::size_t const heads = lse.size();
  if (lse_a.size() != heads || lse_b.size() != heads || out_a.size() != out.size() ||
      out_b.size() != out.size() || (heads == 0 ? !out.empty() : out.size() % heads != 0)) {
    throw InvalidArgument("merge_async(): out_a, out_b and out have " +
                          std::to_string(out_a.size()) + ", " + std::to_string(out_b.size()) +
                          " and " + std::to_string(out.size()) +
                          " elements, lse_a, lse_b and lse " + std::to_string(lse_a.size()) + ", " +
                          std::to_string(lse_b.size()) + " and " + std::to_string(heads) +
                          ": all three must agree, and out must hold as many for each head");
  }
  if (heads > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidArgument("merge_async(): " + std::to_string(heads) + " heads, must be below 2^31");
  }
  if (heads == 0) {
    return;
  }
  constexpr std::size_t block_heads = detail::merge_threads / 32;
  auto const blocks = static_cast<unsigned>((heads + block_heads - 1) / block_heads);
  detail::merge_kernel<T><<<blocks, detail::merge_threads, 0, stream.get()>>>(
      out_a.data(), lse_a.data(), out_b.data(), lse_b.data(), out.data(), lse.data(),
      static_cast<unsigned>(heads), static_cast<unsigned>(out.size() / heads));
  check_launch("merge_kernel");
}

/// @brief merge_async(), and waits for it.
template <Element T = float>
void merge(::cuda::std::type_identity_t<Span<T const>> out_a, Span<float const> lse_a,
           Span<float const> out_b, Span<float const> lse_b,
           ::cuda::std::type_identity_t<Span<T>> out, Span<float> lse, ::cuda::stream_ref stream) {
  merge_async<T>(out_a, lse_a, out_b, lse_b, out, lse, stream);
  check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
}

}  // namespace kvfreeze::gpu
