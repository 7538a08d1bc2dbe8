#pragma once

/// @file
/// @brief The transfer budget on the device: twins of host::plan_transfers() and of the host's
/// `transfer_left`, same arithmetic.

#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/detail/transfer_budget_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/move_job.cuh>
#include <kvfreeze/gpu/workspace.cuh>
#include <kvfreeze/host/lane.hpp>

#include <cuda/std/type_traits>
#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace kvfreeze::gpu {

/// @brief Lists of whole granules to move, most urgent first; on the device. A list is a lane's or
/// a sequence's: whatever has a budget.
struct TransferLists {
  Span<MoveJob const> jobs;
  Span<std::uint32_t const> begins;  ///< [lists]: where in `jobs` a list begins
  Span<std::uint32_t const> counts;  ///< [lists]: its jobs
};

/// What of the lists is carried out now.
struct KeptTransfers {
  Span<MoveJob> jobs;          ///< list after list, each in its order; as many as all lists hold
  Span<std::uint32_t> totals;  ///< [2]: jobs kept, jobs deferred
};

/// The budgets of lists. On the device; read and written.
struct TransferBudget {
  Span<std::uint64_t> left_bytes;  ///< [lists]: what may still move; `unlimited` for no limit
  Span<std::uint32_t> deferred;    ///< [lists]: granules that did not fit are added
  std::size_t granule_bytes = 0;   ///< K and V
};

/// Shows jobs that did not fit to nobody.
struct CarryNothing {
  __device__ void operator()(MoveJob const&) const {}
};

/// Flags granules that did not fit in their state bytes, so that they are first in line next step.
struct CarryInStates {
  Span<std::uint8_t> states;   ///< [sequence][lane][granule], as host::GranuleState
  std::uint32_t lanes = 0;     ///< of a sequence
  std::uint32_t granules = 0;  ///< of a lane

  __device__ void operator()(MoveJob const& job) const {
    states[(std::size_t{job.sequence} * lanes + job.lane) * granules + job.granule] |=
        host::GranuleState::carried;
  }
};

namespace detail {

inline constexpr int keep_threads = 1024;
inline constexpr int list_threads = 256;
inline constexpr int deal_threads = 256;

struct KeepWorkspace {
  std::uint32_t* kept = nullptr;
  std::uint32_t* places = nullptr;

  KeepWorkspace(WorkspaceLayout& layout, std::size_t lists)
      : kept(layout.take<std::uint32_t>(lists)), places(layout.take<std::uint32_t>(lists)) {}
};

inline void check_sizes(char const* function, char const* what, std::size_t size,
                        std::size_t expected) {
  if (size != expected) {
    throw InvalidArgument(std::string(function) + ": " + what + " has " + std::to_string(size) +
                          " elements, expected " + std::to_string(expected));
  }
}

}  // namespace detail

/// @param lists how many
[[nodiscard]] inline std::size_t keep_affordable_workspace_bytes(std::size_t lists) {
  detail::WorkspaceLayout layout;
  detail::KeepWorkspace const arrays(layout, lists);
  return layout.bytes();
}

/// @brief Keeps of each list the longest beginning that its budget pays for, pays, and carries the
/// rest over.
///
/// @param carry called on the device as carry(job) for each job that did not fit. Trivially
/// copyable, of a type with external linkage
/// @param workspace of keep_affordable_workspace_bytes(lists)
/// @throws InvalidArgument naming the argument and the numbers, before anything is launched
/// @throws CudaError if a launch fails
/// @stream_semantics asynchronous, two launches, may be captured in a graph
/// @complexity O(lists + jobs)
template <class Carry = CarryNothing>
void keep_affordable_async(TransferLists const& lists, TransferBudget const& budget,
                           KeptTransfers const& kept, Carry const& carry, Span<std::byte> workspace,
                           ::cuda::stream_ref stream) {
  static_assert(::cuda::std::is_trivially_copyable_v<Carry>,
                "kvfreeze: what carries jobs over must be trivially copyable");
  constexpr char const* name = "keep_affordable_async";
  std::size_t const n = lists.counts.size();
  detail::check_sizes(name, "begins", lists.begins.size(), n);
  detail::check_sizes(name, "left_bytes", budget.left_bytes.size(), n);
  detail::check_sizes(name, "deferred", budget.deferred.size(), n);
  detail::check_sizes(name, "totals", kept.totals.size(), 2);
  if (kept.jobs.size() < lists.jobs.size()) {
    throw InvalidArgument(std::string(name) + ": there is room for " +
                          std::to_string(kept.jobs.size()) + " jobs, the lists may hold " +
                          std::to_string(lists.jobs.size()));
  }
  if (std::max(n, lists.jobs.size()) > std::numeric_limits<std::uint32_t>::max()) {
    throw InvalidArgument(std::string(name) + ": " + std::to_string(n) + " lists with room for " +
                          std::to_string(lists.jobs.size()) + " jobs, more than 2^32 - 1");
  }
  if (budget.granule_bytes == 0) {
    throw InvalidArgument(std::string(name) + ": granule_bytes is 0");
  }
  detail::check_workspace(name, workspace, keep_affordable_workspace_bytes(n));
  detail::WorkspaceLayout layout(workspace.data());
  detail::KeepWorkspace const arrays(layout, n);
  detail::keep_affordable_kernel<detail::keep_threads>
      <<<1, detail::keep_threads, 0, stream.get()>>>(
          lists.counts, budget.left_bytes, budget.granule_bytes, arrays.kept, arrays.places,
          budget.deferred, kept.totals.data());
  check_launch("keep_affordable_kernel");
  if (n == 0 || lists.jobs.empty()) {
    return;
  }
  // Few long lists want more blocks each; some 1,000 jobs a block.
  std::size_t const each = lists.jobs.size() / n / 1024 + 1;
  dim3 const grid(static_cast<unsigned>(std::min<std::size_t>(n, 1024)),
                  static_cast<unsigned>(std::min<std::size_t>(each, 64)));
  detail::list_kept_kernel<detail::list_threads><<<grid, detail::list_threads, 0, stream.get()>>>(
      lists.jobs, lists.begins, lists.counts, arrays.kept, arrays.places, kept.jobs, carry);
  check_launch("list_kept_kernel");
}

/// @brief Deals the transfer budget of the next step to the lanes of each sequence: equal parts,
/// the rest one granule each to the lanes that had to defer, then round the others, from another
/// lane each step.
///
/// @param deferred [sequences * lanes]: granules that did not fit in this step
/// @param steps [sequences]: steps taken
/// @param lanes of a sequence
/// @param transfer_bytes of a sequence and token, or `unlimited`
/// @param allotments [sequences * lanes]: bytes for each token of the next step
/// @throws InvalidArgument naming the argument and the numbers, before anything is launched
/// @throws CudaError if the launch fails
/// @stream_semantics asynchronous, one launch, may be captured in a graph
/// @complexity O(lanes)
inline void plan_transfers_async(Span<std::uint32_t const> deferred,
                                 Span<std::uint32_t const> steps, std::uint32_t lanes,
                                 std::size_t transfer_bytes, std::size_t granule_bytes,
                                 Span<std::uint64_t> allotments, ::cuda::stream_ref stream) {
  constexpr char const* name = "plan_transfers_async";
  if (lanes == 0 || granule_bytes == 0) {
    throw InvalidArgument(std::string(name) + ": lanes is " + std::to_string(lanes) +
                          " and granule_bytes " + std::to_string(granule_bytes) +
                          ", both must be positive");
  }
  std::size_t const all = steps.size() * lanes;
  detail::check_sizes(name, "deferred", deferred.size(), all);
  detail::check_sizes(name, "allotments", allotments.size(), all);
  if (all == 0) {
    return;
  }
  if (transfer_bytes == unlimited) {
    auto const blocks = (all + detail::deal_threads - 1) / detail::deal_threads;
    detail::allow_everything_kernel<detail::deal_threads>
        <<<static_cast<unsigned>(blocks), detail::deal_threads, 0, stream.get()>>>(allotments);
    check_launch("allow_everything_kernel");
    return;
  }
  detail::plan_transfers_kernel<detail::deal_threads>
      <<<static_cast<unsigned>(steps.size()), detail::deal_threads, 0, stream.get()>>>(
          deferred, steps, lanes, transfer_bytes / granule_bytes, granule_bytes, allotments);
  check_launch("plan_transfers_kernel");
}

}  // namespace kvfreeze::gpu
