#pragma once

/// @file
/// @brief Lists of the rows above a threshold: host::list_at_least of many runs at once.

#include <kvfreeze/gpu/detail/list_at_least_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/threshold_list.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

namespace detail {

struct ListWorkspace {
  std::uint32_t* cells;
  std::size_t bytes;

  ListWorkspace(std::size_t lists, int max_rows, std::byte* base) {
    if (max_rows < 0 || max_rows > 1 << 26) {
      throw InvalidArgument("list_at_least: max_rows is " + std::to_string(max_rows) +
                            ", expected a number in [0, 2^26]");
    }
    WorkspaceLayout layout(base);
    cells = layout.take<std::uint32_t>(lists * static_cast<std::size_t>(list_chunks(max_rows)));
    bytes = layout.bytes();
  }
};

}  // namespace detail

/// @brief Bytes that `list_at_least_async` needs for so many lists.
/// @throws InvalidArgument for numbers out of range
inline std::size_t list_at_least_workspace_bytes(std::size_t lists, int max_rows) {
  return detail::ListWorkspace(lists, max_rows, nullptr).bytes;
}

/// @brief Lists, in ascending order, the rows of each run that take part and whose value is at
/// least the run's threshold.
///
/// One launch and one memset for all runs. Nothing is waited for; arrays and what `lists` points to
/// must live until the stream has done the work.
/// @param lists a DescribedLists, or a type with the same member
/// @param max_rows no run has more (rows beyond it are not listed)
/// @param counts [runs]: entries of each list
/// @throws InvalidArgument, CudaError
/// @complexity O(rows) a run
template <class Lists>
void list_at_least_async(Lists const& lists, int max_rows, Span<std::uint32_t> counts,
                         Span<std::byte> workspace, ::cuda::stream_ref stream) {
  std::size_t const bytes = list_at_least_workspace_bytes(counts.size(), max_rows);
  if (counts.size() > 65535) {
    throw InvalidArgument("list_at_least: there are " + std::to_string(counts.size()) +
                          " lists, expected at most 65535");
  }
  detail::check_workspace("list_at_least", workspace, bytes);
  if (counts.empty()) {
    return;
  }
  detail::ListWorkspace const memory(counts.size(), max_rows, workspace.data());
  check(cudaMemsetAsync(memory.cells, 0, bytes, stream.get()), "cudaMemsetAsync of chunk counts");
  dim3 const grid(static_cast<unsigned>(detail::list_chunks(max_rows)),
                  static_cast<unsigned>(counts.size()));
  detail::list_at_least_kernel<<<grid, detail::list_chunk_threads, 0, stream.get()>>>(
      lists, max_rows, memory.cells, counts.data());
  check_launch("list_at_least_kernel");
}

}  // namespace kvfreeze::gpu
