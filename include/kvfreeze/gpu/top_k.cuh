#pragma once

#include <kvfreeze/gpu/detail/radix_select_kernels.cuh>
#include <kvfreeze/gpu/detail/top_k_kernels.cuh>
#include <kvfreeze/gpu/marks.cuh>
#include <kvfreeze/gpu/segments.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Bytes of workspace for `top_k` and `top_k_async`.
/// @param scores how many there are
/// @param longest as in `Segments`
inline std::size_t top_k_workspace_bytes(std::size_t scores,
                                         std::size_t longest = Segments::any_length) {
  return detail::select_workspace_bytes<detail::TopKRule>(scores, longest);
}

/// @brief Marks the k highest scores of each segment; of equal scores, the first in position.
///
/// A segment of at most k elements is marked whole. Both zeros are equal. A NaN ranks below
/// everything: it is only marked if there are fewer than k others; the report counts NaNs.
/// Does not wait and does not allocate; may be captured in a graph. All arguments must stay valid
/// until the stream has come past. One launch if no segment has more than 32,768 elements as far
/// as is known, else five and a fill; another fill for a report. Equal to host::top_k to the bit.
/// @param marks where the answer goes; elements outside all segments are left alone
/// @param workspace at least `top_k_workspace_bytes(scores.size(), batch.longest)`
/// @throws InvalidArgument on sizes that do not fit, CudaError
/// @complexity O(scores): four passes
inline void top_k_async(Span<float const> scores, Segments const& batch, std::uint32_t k,
                        Marks const& marks, Span<std::byte> workspace, ::cuda::stream_ref stream) {
  detail::select_async("top_k", detail::TopKRule{nullptr, k}, scores, batch, marks, workspace,
                       stream);
}

/// @brief The same with a k for each segment, on the device.
/// @param k [segments]
inline void top_k_async(Span<float const> scores, Segments const& batch,
                        Span<std::uint32_t const> k, Marks const& marks, Span<std::byte> workspace,
                        ::cuda::stream_ref stream) {
  host::detail::check_size("top_k", "k", k.size(), batch.size());
  detail::select_async("top_k", detail::TopKRule{k.data(), 0}, scores, batch, marks, workspace,
                       stream);
}

/// @brief The same, waited for: the twin of host::top_k.
/// @param selected as long as `scores`: 1 for selected elements, 0 for the others
/// @return how many were selected
/// @throws InvalidArgument on offsets or sizes that do not fit, or a NaN; nothing was written then
inline std::size_t top_k(Span<float const> scores, Segments const& batch, std::uint32_t k,
                         Span<std::uint8_t> selected, Span<std::byte> workspace,
                         ::cuda::stream_ref stream) {
  detail::check_top_k(scores, batch, selected, workspace, stream);
  return detail::select("top_k", detail::TopKRule{nullptr, k}, scores, batch, selected, workspace,
                        stream);
}

/// @brief The same with a k for each segment, on the device.
inline std::size_t top_k(Span<float const> scores, Segments const& batch,
                         Span<std::uint32_t const> k, Span<std::uint8_t> selected,
                         Span<std::byte> workspace, ::cuda::stream_ref stream) {
  host::detail::check_size("top_k", "k", k.size(), batch.size());
  detail::check_top_k(scores, batch, selected, workspace, stream);
  return detail::select("top_k", detail::TopKRule{k.data(), 0}, scores, batch, selected, workspace,
                        stream);
}

}  // namespace kvfreeze::gpu
