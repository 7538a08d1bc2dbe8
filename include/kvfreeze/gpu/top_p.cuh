#pragma once

#include <kvfreeze/gpu/detail/radix_select_kernels.cuh>
#include <kvfreeze/gpu/marks.cuh>
#include <kvfreeze/gpu/segments.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// @brief Bytes of workspace for `top_p` and `top_p_async`.
/// @param masses how many there are
/// @param longest as in `Segments`
inline std::size_t top_p_workspace_bytes(std::size_t masses,
                                         std::size_t longest = Segments::any_length) {
  return detail::select_workspace_bytes<detail::TopPRule>(masses, longest);
}

/// @brief Marks, in each segment, the smallest set of highest masses whose sum is at least the
/// fraction p of the segment's; of equal masses, the first in position.
///
/// The goal is ceil(p * sum), the product in double. Zero masses are never marked.
/// Does not wait and does not allocate; may be captured in a graph. All arguments must stay valid
/// until the stream has come past. One launch if no segment has more than 32,768 elements as far
/// as is known, else five and a fill; another fill for a report. Equal to host::top_p to the bit.
/// @param p in [0, 1]; 0 marks nothing
/// @param marks where the answer goes; elements outside all segments are left alone
/// @param workspace at least `top_p_workspace_bytes(masses.size(), batch.longest)`
/// @throws InvalidArgument on sizes or p that do not fit, CudaError
/// @complexity O(masses): four passes
inline void top_p_async(Span<std::uint32_t const> masses, Segments const& batch, float p,
                        Marks const& marks, Span<std::byte> workspace, ::cuda::stream_ref stream) {
  if (!(p >= 0.0F && p <= 1.0F)) {
    throw InvalidArgument("top_p: p is " + std::to_string(p) + ", expected a number in [0, 1]");
  }
  detail::select_async("top_p", detail::TopPRule{nullptr, p}, masses, batch, marks, workspace,
                       stream);
}

/// @brief The same with a p for each segment, on the device.
/// @param p [segments]; taken into [0, 1], and a NaN for 0
inline void top_p_async(Span<std::uint32_t const> masses, Segments const& batch,
                        Span<float const> p, Marks const& marks, Span<std::byte> workspace,
                        ::cuda::stream_ref stream) {
  host::detail::check_size("top_p", "p", p.size(), batch.size());
  detail::select_async("top_p", detail::TopPRule{p.data(), 0.0F}, masses, batch, marks, workspace,
                       stream);
}

/// @brief The same, waited for: the twin of host::top_p.
/// @param selected as long as `masses`: 1 for selected elements, 0 for the others
/// @return how many were selected
/// @throws InvalidArgument on offsets, sizes or p that do not fit; nothing was written then
inline std::size_t top_p(Span<std::uint32_t const> masses, Segments const& batch, float p,
                         Span<std::uint8_t> selected, Span<std::byte> workspace,
                         ::cuda::stream_ref stream) {
  detail::check_select<detail::TopPRule>("top_p", masses.size(), batch, {selected}, workspace);
  if (!(p >= 0.0F && p <= 1.0F)) {
    throw InvalidArgument("top_p: p is " + std::to_string(p) + ", expected a number in [0, 1]");
  }
  detail::check_segments("top_p", batch, masses.size(), stream);
  return detail::select("top_p", detail::TopPRule{nullptr, p}, masses, batch, selected, workspace,
                        stream);
}

/// @brief The same with a p for each segment, on the device.
inline std::size_t top_p(Span<std::uint32_t const> masses, Segments const& batch,
                         Span<float const> p, Span<std::uint8_t> selected,
                         Span<std::byte> workspace, ::cuda::stream_ref stream) {
  detail::check_select<detail::TopPRule>("top_p", masses.size(), batch, {selected}, workspace);
  host::detail::check_size("top_p", "p", p.size(), batch.size());
  detail::check_segments("top_p", batch, masses.size(), stream);
  return detail::select("top_p", detail::TopPRule{p.data(), 0.0F}, masses, batch, selected,
                        workspace, stream);
}

}  // namespace kvfreeze::gpu
