#pragma once

#include <kvfreeze/gpu/detail/compact_kernels.cuh>
#include <kvfreeze/gpu/segments.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace kvfreeze::gpu {

/// What `compact` moves: trivially copyable, up to 16 bytes.
template <class T>
concept Compactable = std::is_trivially_copyable_v<T> && sizeof(T) <= 16;

/// @brief Bytes of workspace for the functions of this header.
/// @param flags how many there are
/// @param longest as in `Segments`
inline std::size_t compact_workspace_bytes(std::size_t flags,
                                           std::size_t longest = Segments::any_length) {
  return detail::compact_workspace(flags, longest);
}

/// @brief Stable stream compaction: the values whose flag is not zero, in order, to `out`.
///
/// Does not wait and does not allocate; may be captured in a graph. All arguments must stay valid
/// until the stream has come past. One launch for up to 16,384 flags, else two. Same result as
/// host::compact.
/// @param out must not overlap `flags`; may begin where `values` begins if there are at most 16,384
///   of them, and is apart from them otherwise. What lies behind the flagged values is left alone.
///   Where it has no room for all, the first ones are written.
/// @param count one: how many values are flagged
/// @param workspace at least `compact_workspace_bytes(flags.size())`
/// @throws InvalidArgument on sizes that do not fit or overlap, CudaError
/// @complexity O(flags); of the values only those that stay are read
template <Compactable T>
void compact_async(Span<std::uint8_t const> flags, Span<T const> values, Span<T> out,
                   Span<std::uint32_t> count, Span<std::byte> workspace,
                   ::cuda::stream_ref stream) {
  host::detail::check_size("compact", "flags", flags.size(), values.size());
  detail::check_compact("compact", flags, {}, true, count, workspace);
  detail::check_apart("compact", values, out, Segments());
  detail::launch_compact_values(flags, values, {}, true, out, count, workspace, stream);
}

/// @brief The same for each segment: its flagged values go to the front of its own range of `out`.
///
/// One launch if no segment has more than 16,384 elements as far as is known, else two. A segment
/// whose offsets descend or lead beyond the flags counts 0.
/// @param out as long as `values`; may be `values` if `batch.longest` is at most 16,384
/// @param counts [segments] how many values of each are flagged
/// @param workspace at least `compact_workspace_bytes(flags.size(), batch.longest)`
template <Compactable T>
void compact_async(Span<std::uint8_t const> flags, Span<T const> values, Segments const& batch,
                   Span<T> out, Span<std::uint32_t> counts, Span<std::byte> workspace,
                   ::cuda::stream_ref stream) {
  host::detail::check_size("compact", "flags", flags.size(), values.size());
  host::detail::check_size("compact", "out", out.size(), values.size());
  detail::check_compact("compact", flags, batch, false, counts, workspace);
  detail::check_apart("compact", values, out, batch);
  detail::launch_compact_values(flags, values, batch, false, out, counts, workspace, stream);
}

/// @brief The positions of the flags that are not zero, in order. Otherwise as `compact_async`.
/// @param out holds the positions, as many as there is room for
inline void compact_positions_async(Span<std::uint8_t const> flags, Span<std::uint32_t> out,
                                    Span<std::uint32_t> count, Span<std::byte> workspace,
                                    ::cuda::stream_ref stream) {
  detail::check_compact("compact_positions", flags, {}, true, count, workspace);
  detail::launch_compact(detail::CompactPositions(), flags, {}, true, out, count, workspace,
                         stream);
}

/// @brief The same for each segment: positions count from its begin and go to the front of its own
/// range of `out`.
/// @param out as long as `flags`
inline void compact_positions_async(Span<std::uint8_t const> flags, Segments const& batch,
                                    Span<std::uint32_t> out, Span<std::uint32_t> counts,
                                    Span<std::byte> workspace, ::cuda::stream_ref stream) {
  host::detail::check_size("compact_positions", "out", out.size(), flags.size());
  detail::check_compact("compact_positions", flags, batch, false, counts, workspace);
  detail::launch_compact(detail::CompactPositions(), flags, batch, false, out, counts, workspace,
                         stream);
}

/// @brief Compaction that is waited for: the twin of host::compact.
/// @return how many values were written
/// @throws InvalidArgument if sizes do not fit or overlap, or `out` is too small; nothing was
///   written then
template <Compactable T>
std::size_t compact(Span<std::uint8_t const> flags, Span<T const> values, Span<T> out,
                    Span<std::byte> workspace, ::cuda::stream_ref stream) {
  host::detail::check_size("compact", "flags", flags.size(), values.size());
  detail::check_apart("compact", values, out, Segments());
  auto const run = [&](Span<T> room, Span<std::uint32_t> count) {
    compact_async<T>(flags, values, room, count, workspace, stream);
  };
  return detail::wait_for_compact("compact", flags, out, workspace, stream, run);
}

/// @brief Positions of flags, waited for.
/// @return how many were written
/// @throws InvalidArgument if `out` is too small; nothing was written then
inline std::size_t compact_positions(Span<std::uint8_t const> flags, Span<std::uint32_t> out,
                                     Span<std::byte> workspace, ::cuda::stream_ref stream) {
  auto const run = [&](Span<std::uint32_t> room, Span<std::uint32_t> count) {
    compact_positions_async(flags, room, count, workspace, stream);
  };
  return detail::wait_for_compact("compact_positions", flags, out, workspace, stream, run);
}

/// @brief Segmented compaction that is waited for.
/// @return how many values were written in all segments
/// @throws InvalidArgument on offsets or sizes that do not fit or overlap; nothing was written then
template <Compactable T>
std::size_t compact(Span<std::uint8_t const> flags, Span<T const> values, Segments const& batch,
                    Span<T> out, Span<std::uint32_t> counts, Span<std::byte> workspace,
                    ::cuda::stream_ref stream) {
  detail::check_segments("compact", batch, flags.size(), stream);
  compact_async<T>(flags, values, batch, out, counts, workspace, stream);
  return detail::sum_of_counts(counts, stream);
}

/// @brief Positions of the flags of each segment, waited for.
/// @return how many were written in all segments
/// @throws InvalidArgument on offsets or sizes that do not fit; nothing was written then
inline std::size_t compact_positions(Span<std::uint8_t const> flags, Segments const& batch,
                                     Span<std::uint32_t> out, Span<std::uint32_t> counts,
                                     Span<std::byte> workspace, ::cuda::stream_ref stream) {
  detail::check_segments("compact_positions", batch, flags.size(), stream);
  compact_positions_async(flags, batch, out, counts, workspace, stream);
  return detail::sum_of_counts(counts, stream);
}

}  // namespace kvfreeze::gpu
