#pragma once

/// @file
/// @brief Radix select over segments: the twin of host/kernels/radix_select.hpp.
///
/// A short segment is one block's: up to a tile of keys stay in registers, more are read again from
/// the caches. A long one is shared by many blocks, a launch for each digit: each adds its
/// histogram to the segment's, and every block of the next launch finds the digit for itself. Sums
/// of integers do not depend on the order, so nothing else does. No block waits for another.

#include <kvfreeze/gpu/detail/radix_select.cuh>
#include <kvfreeze/gpu/detail/segment_checks.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/marks.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Estimated, not measured: a block's four passes over eight tiles take as long as the launches
/// that they save.
inline constexpr std::uint32_t select_longer_than = 8 * select_tile;
inline constexpr std::uint32_t select_chunk = 2 * select_tile;  ///< of a long segment, for a block

/// What the launches of a selection are told.
template <class Rule>
struct SelectTask {
  using Sum = typename Rule::Sum;

  Rule rule;
  SegmentChunks chunks;
  typename Rule::Element const* input = nullptr;
  std::uint8_t* selected = nullptr;
  std::uint32_t* counts = nullptr;  ///< [segments], or null
  MarksReport* report = nullptr;    ///< or null

  // Of long segments:
  std::uint32_t slots = 0;
  Sum* sums = nullptr;                 ///< [digit][slot][cell]
  SelectState<Sum>* states = nullptr;  ///< [known digits - 1][slot]
  std::uint32_t* equals = nullptr;     ///< [chunk] elements that equal the cutoff, if it is partial

  [[nodiscard]] __device__ Sum* sums_of(int digit, std::uint32_t slot) const {
    return sums + (static_cast<std::size_t>(digit) * slots + slot) * select_cells;
  }

  [[nodiscard]] __device__ SelectState<Sum>& state_of(int known, std::uint32_t slot) const {
    return states[static_cast<std::size_t>(known - 1) * slots + slot];
  }

  /// @param found as SelectRun::mark returns it
  __device__ void report_marks(uint2 found) const {
    if (report != nullptr && found.x != 0) {
      atomicAdd(&report->selected, found.x);
    }
    if (report != nullptr && found.y != 0) {
      atomicAdd(&report->nans, found.y);
    }
  }
};

template <class Rule>
__device__ void select_short(SelectTask<Rule> const& task, SelectStorage<Rule>& shared,
                             Segment const& segment) {
  SelectRun<Rule> run(shared, task.input, task.selected, segment.begin,
                      std::size_t{segment.begin} + segment.size);
  SelectState<typename Rule::Sum> state{};
  std::size_t behind = run.end();
  bool reads = Rule::has_nans && task.report != nullptr;  // only to count them
  if (!task.rule.known(segment, state)) {
    for (int digit = 0; digit < select_digits && !state.done; ++digit) {
      run.count(state, digit);
      state = run.descend(task.rule, segment, state, digit, run.counted(digit));
    }
    if (state.partial) {
      behind = run.behind_equal(state.key, state.ties);
    }
    reads = reads || !state.nothing;
  }
  uint2 const found = run.mark(state, behind, reads);
  if (threadIdx.x == 0) {
    if (task.counts != nullptr) {
      task.counts[segment.index] = found.x;
    }
    task.report_marks(found);
  }
}

static_assert(select_longer_than <= SelectHistogram<TopPRule>::most);

/// Adds the histogram of a chunk's digit to its segment's.
template <class Rule>
__device__ void add_digit(SelectTask<Rule> const& task, SelectRun<Rule>& run,
                          SelectState<typename Rule::Sum> const& state, int digit,
                          std::uint32_t slot) {
  for (std::size_t at = 0; at < run.end(); at += SelectRun<Rule>::piece) {
    run.count(state, digit, at);
    auto const own = run.counted(digit);
#pragma unroll
    for (std::uint32_t i = 0; i < select_own_cells; ++i) {
      if (own.of[i] != 0) {
        atomicAdd(task.sums_of(digit, slot) + threadIdx.x * select_own_cells + i, own.of[i]);
      }
    }
    __syncthreads();
  }
}

/// First launch: whole short segments; of long ones the first digit.
template <class Rule>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(select_threads, 2)
    radix_select_kernel(SelectTask<Rule> const task) {
  __shared__ SelectStorage<Rule> shared;
  if (blockIdx.x < task.chunks.segments) {
    Segment const segment = task.chunks.segment(blockIdx.x);
    if (threadIdx.x == 0 && !segment.fits && task.report != nullptr) {
      atomicAdd(&task.report->bad_segments, 1U);
    }
    if (threadIdx.x == 0 && segment.size == 0 && task.counts != nullptr) {
      task.counts[segment.index] = 0;
    }
    if (segment.size != 0 && !task.chunks.is_long(segment)) {
      select_short(task, shared, segment);
    }
    return;
  }
  std::uint32_t const number = blockIdx.x - task.chunks.segments;
  SegmentChunk const chunk = task.chunks.chunk_of(number, task.input);
  if (!chunk.exists) {
    return;
  }
  std::uint32_t const slot = task.chunks.long_slot(chunk.segment.begin);
  if (number == chunk.first) {  // makes room for what the next launches add
    for (std::uint32_t i = threadIdx.x; i < select_cells; i += select_threads) {
      task.sums_of(1, slot)[i] = 0;
      task.sums_of(2, slot)[i] = 0;
    }
    if (threadIdx.x == 0 && task.counts != nullptr) {
      task.counts[chunk.segment.index] = 0;
    }
  }
  SelectState<typename Rule::Sum> state{};
  if (!task.rule.known(chunk.segment, state)) {
    SelectRun<Rule> run(shared, task.input, task.selected, chunk.from, chunk.to);
    add_digit(task, run, state, 0, slot);
  }
}

/// Marks a chunk once the cutoff is known.
template <class Rule>
__device__ void mark_chunk(SelectTask<Rule> const& task, SelectStorage<Rule>& shared,
                           SegmentChunk const& chunk, std::uint32_t number) {
  SelectRun<Rule> run(shared, task.input, task.selected, chunk.from, chunk.to);
  SelectState<typename Rule::Sum> state{};
  std::size_t behind = run.end();
  bool reads = Rule::has_nans && task.report != nullptr;
  if (!task.rule.known(chunk.segment, state)) {
    state = task.state_of(select_digits, task.chunks.long_slot(chunk.segment.begin));
    reads = reads || !state.nothing;
    if (state.partial) {
      std::uint32_t before = 0;
      for (std::uint32_t i = chunk.first + threadIdx.x; i < number; i += select_threads) {
        before += task.equals[i];
      }
      before = block_sum(before, shared.number);
      std::uint32_t const left = state.ties > before ? state.ties - before : 0U;
      if (left == 0) {
        behind = 0;
      } else if (left < task.equals[number]) {
        behind = run.behind_equal(state.key, left);
      }
    }
  }
  uint2 const found = run.mark(state, behind, reads);
  if (threadIdx.x == 0) {
    if (task.counts != nullptr && found.x != 0) {
      atomicAdd(task.counts + chunk.segment.index, found.x);
    }
    task.report_marks(found);
  }
}

/// @brief The other launches, for long segments only.
/// @param known digits that are: 1 and 2 count the next one, 3 counts ties if they have to be cut,
///   4 marks
template <class Rule>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(select_threads, 2)
    radix_select_long_kernel(SelectTask<Rule> const task, int known) {
  __shared__ SelectStorage<Rule> shared;
  std::uint32_t const number = blockIdx.x;
  SegmentChunk const chunk = task.chunks.chunk_of(number, task.input);
  SelectState<typename Rule::Sum> state{};
  if (!chunk.exists) {
    return;
  }
  if (known > select_digits) {
    mark_chunk(task, shared, chunk, number);
    return;
  }
  if (task.rule.known(chunk.segment, state)) {
    return;
  }
  std::uint32_t const slot = task.chunks.long_slot(chunk.segment.begin);
  SelectRun<Rule> run(shared, task.input, task.selected, chunk.from, chunk.to);
  if (known > 1) {
    state = task.state_of(known - 1, slot);
  }
  if (!state.done) {
    auto const* const sums = task.sums_of(known - 1, slot) + threadIdx.x * select_own_cells;
    auto const own = *reinterpret_cast<SelectSums<typename Rule::Sum> const*>(sums);
    state = run.descend(task.rule, chunk.segment, state, known - 1, own);
  }
  if (number == chunk.first && threadIdx.x == 0) {
    task.state_of(known, slot) = state;
  }
  if (!state.done) {
    add_digit(task, run, state, known, slot);
  } else if (known == select_digits && state.partial) {
    std::uint32_t const equal = run.count_equal(state.key);
    if (threadIdx.x == 0) {
      task.equals[number] = equal;
    }
  }
}

/// Where the temporaries of a selection lie; with a base, in a workspace.
template <class Rule>
WorkspaceLayout lay_out_select(SelectTask<Rule>& task, std::byte* base) {
  WorkspaceLayout layout(base);
  task.slots = task.chunks.long_slots();
  if (task.slots != 0) {
    task.sums = layout.template take<typename Rule::Sum>(std::size_t{select_digits} * task.slots *
                                                         select_cells);
    task.states = layout.template take<SelectState<typename Rule::Sum>>(std::size_t{select_digits} *
                                                                        task.slots);
    task.equals = layout.template take<std::uint32_t>(task.chunks.long_blocks());
  }
  return layout;
}

/// Bytes that a selection from `size` elements needs; those of the last, a report, only if it
/// waits.
template <class Rule>
std::size_t select_workspace_bytes(std::size_t size, std::size_t longest) {
  SelectTask<Rule> task;
  task.chunks = plan_chunks(Segments(Span<std::uint32_t const>(), longest), size,
                            select_longer_than, select_chunk);
  WorkspaceLayout layout = lay_out_select(task, nullptr);
  layout.take<MarksReport>(1);
  return layout.bytes();
}

template <class Rule>
void check_select(char const* function, std::size_t size, Segments const& batch, Marks const& marks,
                  Span<std::byte> workspace) {
  host::detail::check_size(function, "selected", marks.selected.size(), size);
  if (!marks.counts.empty()) {
    host::detail::check_size(function, "counts", marks.counts.size(), batch.size());
  }
  if (!marks.report.empty()) {
    host::detail::check_size(function, "report", marks.report.size(), 1);
  }
  check_segment_count(function, batch.size());
  check_workspace(function, workspace, select_workspace_bytes<Rule>(size, batch.longest));
}

template <class Rule>
void select_async(char const* function, Rule const& rule, Span<typename Rule::Element const> input,
                  Segments const& batch, Marks const& marks, Span<std::byte> workspace,
                  ::cuda::stream_ref stream) {
  check_select<Rule>(function, input.size(), batch, marks, workspace);
  SelectTask<Rule> task;
  task.rule = rule;
  task.chunks = plan_chunks(batch, input.size(), select_longer_than, select_chunk);
  task.input = input.data();
  task.selected = marks.selected.data();
  task.counts = marks.counts.data();
  task.report = marks.report.data();
  lay_out_select(task, workspace.data());
  if (task.report != nullptr) {
    check(cudaMemsetAsync(task.report, 0, sizeof(MarksReport), stream.get()), "cudaMemsetAsync");
  }
  if (task.chunks.segments == 0) {
    return;
  }
  std::uint32_t const long_blocks = task.chunks.long_blocks();
  if (long_blocks != 0) {
    std::size_t const bytes = std::size_t{task.slots} * select_cells * sizeof(*task.sums);
    check(cudaMemsetAsync(task.sums, 0, bytes, stream.get()), "cudaMemsetAsync");
  }
  radix_select_kernel<Rule>
      <<<task.chunks.segments + long_blocks, select_threads, 0, stream.get()>>>(task);
  check_launch("radix_select_kernel");
  for (int known = 1; long_blocks != 0 && known <= select_digits + 1; ++known) {
    radix_select_long_kernel<Rule><<<long_blocks, select_threads, 0, stream.get()>>>(task, known);
    check_launch("radix_select_long_kernel");
  }
}

/// @brief The same, waited for.
/// @return how many elements were marked
template <class Rule>
std::size_t select(char const* function, Rule const& rule, Span<typename Rule::Element const> input,
                   Segments const& batch, Span<std::uint8_t> selected, Span<std::byte> workspace,
                   ::cuda::stream_ref stream) {
  check_select<Rule>(function, input.size(), batch, {selected}, workspace);
  SelectTask<Rule> task;
  task.chunks = plan_chunks(batch, input.size(), select_longer_than, select_chunk);
  auto* const report = lay_out_select(task, workspace.data()).template take<MarksReport>(1);
  select_async(function, rule, input, batch, {selected, {}, {report, 1}}, workspace, stream);
  return read_back(Span<MarksReport const>(report, 1), stream).front().selected;
}

}  // namespace kvfreeze::gpu::detail
