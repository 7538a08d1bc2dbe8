#pragma once

/// @file
/// @brief Softmax masses of many lanes: host::softmax_masses on the device, to the bit.

#include <kvfreeze/gpu/detail/masses_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/logit_run.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cuda/std/type_traits>
#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// Masses are made and not counted.
using NoHistograms = detail::NoHistograms;

/// Masses are made and counted.
using CountOnly = detail::CountOnly;

/// @brief How many lanes there are, and of what kind.
struct MassBatch {
  int lanes = 0;        ///< at least 0
  int heads = 1;        ///< query heads of a lane, at least 1
  int max_rows = 0;     ///< no lane has more, all runs together; only time depends on it
  int page_tokens = 1;  ///< rows of a granule: 1, 4 or 16
  /// [lanes][heads]: `logit_key()` of the largest logit among the rows that take part, for callers
  /// whose kernels note it as they make logits (an atomicMax each, on cells that were 0). Empty:
  /// one more launch finds them.
  Span<std::uint32_t const> largest_keys;
};

/// @brief What is asked for beside masses: spans of this many elements, or empty.
struct MassResults {
  Span<float> highest;  ///< [lanes][heads]: largest logit, minus infinity if no row takes part
  Span<float> lse;      ///< [lanes][heads]: log-sum-exp in octaves, minus infinity likewise
  /// [lanes][heads]: sum of the weights of the first run's rows, in units of 2^-24 of the head's
  /// largest: exact integers, rounded to float once.
  Span<float> first_weights;
  Span<host::LogHistogram> histograms;  ///< [lanes]: of the masses; unless NoHistograms
  /// [lanes]: entropies of the rows' masses, bits in units of 2^-46: sums of
  /// kvfreeze::detail::entropy_term(), of single rows also where granules have several
  Span<unsigned long long> entropies = {};
};

/// @brief A key that orders as logits do; 0 is below every key.
__device__ inline std::uint32_t logit_key(float logit) { return detail::logit_key(logit); }

namespace detail {

struct MassWorkspace {
  std::uint32_t* keys;
  float* references;
  std::uint64_t* sums;
  std::uint64_t* first_sums;
  unsigned* arrived;
  std::size_t bytes;

  MassWorkspace(MassBatch const& batch, std::byte* base) {
    auto const lanes = static_cast<std::size_t>(batch.lanes);
    auto const heads = static_cast<std::size_t>(batch.heads);
    std::size_t const blocks =
        lanes == 0 ? 0 : static_cast<std::size_t>(rank_blocks(batch.lanes, batch.max_rows));
    WorkspaceLayout layout(base);
    keys = layout.take<std::uint32_t>(lanes * heads * blocks);
    references = layout.take<float>(lanes * heads);
    sums = layout.take<std::uint64_t>(lanes * heads * blocks);
    first_sums = layout.take<std::uint64_t>(lanes * heads * blocks);
    arrived = layout.take<unsigned>(lanes);
    bytes = layout.bytes();
  }
};

inline void check_mass_batch(MassBatch const& batch) {
  auto const fail = [](char const* name, int value, char const* expected) {
    throw InvalidArgument(std::string("softmax_masses: ") + name + " is " + std::to_string(value) +
                          ", expected " + expected);
  };
  if (batch.lanes < 0 || batch.lanes > 65535) {
    fail("lanes", batch.lanes, "a number in [0, 65535]");
  }
  if (batch.heads < 1 || batch.heads > 1024) {
    fail("heads", batch.heads, "a number in [1, 1024]");
  }
  if (batch.max_rows < 0 || batch.max_rows > 1 << 26) {
    fail("max_rows", batch.max_rows, "a number in [0, 2^26]");
  }
  if (batch.page_tokens != 1 && batch.page_tokens != 4 && batch.page_tokens != 16) {
    fail("page_tokens", batch.page_tokens, "1, 4 or 16");
  }
}

inline void check_mass_length(char const* name, std::size_t length, std::size_t expected,
                              bool may_be_empty) {
  if (length != expected && !(may_be_empty && length == 0)) {
    throw InvalidArgument(std::string("softmax_masses: ") + name + " has " +
                          std::to_string(length) + " elements, expected " +
                          std::to_string(expected) + (may_be_empty ? " or none" : ""));
  }
}

/// What kernels are told of checked arguments.
inline MassPlan mass_plan(MassBatch const& batch, MassResults const& results,
                          MassWorkspace const& memory) {
  MassPlan plan;
  plan.heads = batch.heads;
  plan.page_shift = page_shift(batch.page_tokens);
  plan.share = 0x1p30F / static_cast<float>(batch.heads);
  plan.known_keys = batch.largest_keys.empty() ? nullptr : batch.largest_keys.data();
  plan.keys = memory.keys;
  plan.references = memory.references;
  plan.sums = memory.sums;
  plan.first_sums = results.first_weights.empty() ? nullptr : memory.first_sums;
  plan.highest = results.highest.empty() ? nullptr : results.highest.data();
  plan.lse = results.lse.empty() ? nullptr : results.lse.data();
  plan.first_weights = results.first_weights.empty() ? nullptr : results.first_weights.data();
  plan.histograms = results.histograms.empty() ? nullptr : results.histograms.data();
  plan.entropies = results.entropies.empty() ? nullptr : results.entropies.data();
  return plan;
}

}  // namespace detail

/// @brief Bytes that `softmax_masses_async` needs.
/// @throws InvalidArgument for numbers out of range
inline std::size_t softmax_masses_workspace_bytes(MassBatch const& batch) {
  detail::check_mass_batch(batch);
  return detail::MassWorkspace(batch, nullptr).bytes;
}

/// @brief Masses of the rows of many lanes: for each row the mean over heads of its softmax weight
/// among the rows of all runs of its lane; 0 for rows that do not take part. With granules of
/// several rows, their sum.
///
/// The same integers as host::softmax_masses and sums of them, whatever the batch. Unlike there,
/// logits stay as they are. Three launches for all lanes, two where the largest logits are known;
/// the masses' histograms and what `finish` makes of them cost none. Nothing is waited for; all
/// arrays and what `lanes` points to must live until the stream has done the work.
/// @param lanes a DescribedLanes, or a type with the same members
/// @param finish NoHistograms, CountOnly, or as in finish_histograms_async(): called for each lane
///   when all its masses are counted
/// @throws InvalidArgument, CudaError
/// @complexity O(heads * rows) a lane; logits are read twice, three times where the largest are not
///   known
template <class Lanes, class Finish = NoHistograms>
void softmax_masses_async(Lanes const& lanes, MassBatch const& batch, MassResults const& results,
                          Span<std::byte> workspace, ::cuda::stream_ref stream,
                          Finish const& finish = {}) {
  constexpr bool counting = !::cuda::std::is_same_v<Finish, NoHistograms>;
  std::size_t const bytes = softmax_masses_workspace_bytes(batch);
  auto const count = static_cast<std::size_t>(batch.lanes);
  std::size_t const all = count * static_cast<std::size_t>(batch.heads);
  detail::check_mass_length("largest_keys", batch.largest_keys.size(), all, true);
  detail::check_mass_length("highest", results.highest.size(), all, true);
  detail::check_mass_length("lse", results.lse.size(), all, true);
  detail::check_mass_length("first_weights", results.first_weights.size(), all, true);
  detail::check_mass_length("entropies", results.entropies.size(), count, true);
  detail::check_mass_length("histograms", results.histograms.size(), counting ? count : 0, false);
  detail::check_workspace("softmax_masses", workspace, bytes);
  if (count == 0) {
    return;
  }
  detail::MassWorkspace const memory(batch, workspace.data());
  detail::MassPlan const plan = detail::mass_plan(batch, results, memory);
  dim3 const grid(static_cast<unsigned>(detail::rank_blocks(batch.lanes, batch.max_rows)),
                  static_cast<unsigned>(batch.lanes));
  if (plan.known_keys == nullptr) {
    detail::largest_logits_kernel<<<grid, detail::rank_threads, 0, stream.get()>>>(lanes, plan);
    check_launch("largest_logits_kernel");
  }
  detail::sum_weights_kernel<<<grid, detail::rank_threads, 0, stream.get()>>>(lanes, plan,
                                                                              memory.arrived);
  check_launch("sum_weights_kernel");
  std::size_t const scales = static_cast<std::size_t>(batch.heads) * sizeof(detail::HeadScale);
  detail::masses_kernel<<<grid, detail::rank_threads, scales, stream.get()>>>(
      lanes, plan, memory.arrived, finish);
  check_launch("masses_kernel");
}

}  // namespace kvfreeze::gpu
