#pragma once

/// @file
/// @brief A scheduler's selections carried out on the device before attention: which granules a
/// step wants exact, and which of them are thawed now.

#include <kvfreeze/gpu/detail/select_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/histogram.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/recall_lane.cuh>
#include <kvfreeze/gpu/workspace.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// @brief How many lanes a recall has, and what their scores are.
struct RecallBatch {
  int lanes = 0;         ///< in [0, 65535]
  int max_granules = 0;  ///< no lane has more
  /// Fixed-point units of a score of 1: detail::masses_per_one or detail::dots_per_nat.
  float units = kvfreeze::detail::masses_per_one;
  /// Ascending epsilons whose demand is noted, at most 256, or none.
  Span<float const> water_levels = {};
};

/// @brief What a recall writes beside the lanes' own arrays.
struct RecallResults {
  Span<RecallResult> lanes;          ///< [lanes]
  Span<std::uint32_t> demands = {};  ///< [lanes][water_levels]: granules wanted at each, or none
};

namespace detail {

struct RecallWorkspace {
  RecallDecision* decisions;
  unsigned* arrived;
  std::uint32_t* cells;
  std::uint32_t* rest;
  std::size_t bytes;

  RecallWorkspace(RecallBatch const& batch, std::byte* base) {
    if (batch.lanes < 0 || batch.lanes > 65535) {
      throw InvalidArgument("recall: lanes is " + std::to_string(batch.lanes) +
                            ", expected a number in [0, 65535]");
    }
    if (batch.max_granules < 0 || batch.max_granules > 1 << 24) {
      throw InvalidArgument("recall: max_granules is " + std::to_string(batch.max_granules) +
                            ", expected a number in [0, 2^24]");
    }
    auto const lanes = static_cast<std::size_t>(batch.lanes);
    auto const granules = static_cast<std::size_t>(batch.max_granules);
    auto const chunks = static_cast<std::size_t>(recall_chunks(batch.max_granules));
    WorkspaceLayout layout(base);
    decisions = layout.take<RecallDecision>(lanes);
    arrived = layout.take<unsigned>(lanes);
    cells = layout.take<std::uint32_t>(lanes * 2 * chunks);
    rest = layout.take<std::uint32_t>(lanes * granules);
    bytes = layout.bytes();
  }
};

inline void check_recall(RecallBatch const& batch, RecallResults const& results) {
  auto const lanes = static_cast<std::size_t>(batch.lanes);
  if (results.lanes.size() != lanes) {
    throw InvalidArgument("recall: results.lanes has " + std::to_string(results.lanes.size()) +
                          " elements, expected " + std::to_string(lanes));
  }
  std::size_t const levels = batch.water_levels.size();
  if (levels > CumulativeHistogram::threads || results.demands.size() != lanes * levels) {
    throw InvalidArgument("recall: results.demands has " + std::to_string(results.demands.size()) +
                          " elements for " + std::to_string(lanes) + " lanes and " +
                          std::to_string(levels) + " water levels, of which at most 256 may be");
  }
}

}  // namespace detail

/// @brief Bytes that a recall's functions need, one workspace for both.
/// @throws InvalidArgument for numbers out of range
inline std::size_t recall_workspace_bytes(RecallBatch const& batch) {
  return detail::RecallWorkspace(batch, nullptr).bytes;
}

/// @brief For finish_histograms_async() and softmax_masses_async(): what the scheduler's recall
/// selects in each lane, from the histogram of the granules that it asks; the cap has the last
/// word. recall_async() carries it out.
/// @param lanes a DescribedRecalls, or a type with the same members
/// @param workspace of recall_workspace_bytes(), the one that recall_async() gets
/// @throws InvalidArgument
template <SchedulerPolicy Scheduler, class Lanes>
detail::DecideRecall<Scheduler, Lanes> decide_recall(Scheduler const& scheduler, Lanes const& lanes,
                                                     RecallBatch const& batch,
                                                     RecallResults const& results,
                                                     Span<std::byte> workspace) {
  detail::check_recall(batch, results);
  detail::check_workspace("decide_recall", workspace, recall_workspace_bytes(batch));
  detail::RecallWorkspace const memory(batch, workspace.data());
  return {scheduler,          lanes,
          batch.units,        detail::recall_chunks(batch.max_granules),
          memory.decisions,   memory.arrived,
          memory.cells,       results.lanes.data(),
          batch.water_levels, results.demands.data()};
}

/// @brief Marks what each lane's step wants exact and lists what of it is thawed, in the order of
/// positions; where the transfer budget does not pay for all, forced and pinned granules first,
/// then those carried over from earlier steps, then the highest scores. What does not fit is
/// carried over.
///
/// host::mark_for_recall and host::list_thaws, to the bit. One launch for all lanes, after
/// decide_recall() was carried out on the same stream. Nothing is waited for.
/// @throws InvalidArgument, CudaError
/// @complexity O(granules) a lane
template <class Lanes>
void recall_async(Lanes const& lanes, RecallBatch const& batch, RecallResults const& results,
                  Span<std::byte> workspace, ::cuda::stream_ref stream) {
  detail::check_recall(batch, results);
  detail::check_workspace("recall", workspace, recall_workspace_bytes(batch));
  if (batch.lanes == 0) {
    return;
  }
  detail::RecallWorkspace const memory(batch, workspace.data());
  dim3 const grid(static_cast<unsigned>(detail::recall_chunks(batch.max_granules)),
                  static_cast<unsigned>(batch.lanes));
  detail::recall_kernel<<<grid, detail::recall_threads, 0, stream.get()>>>(
      lanes, memory.decisions, memory.arrived, memory.cells, memory.rest, batch.max_granules,
      results.lanes.data());
  check_launch("recall_kernel");
}

}  // namespace kvfreeze::gpu
