#pragma once

#include <kvfreeze/gpu/detail/chunk_groups_kernel.cuh>
#include <kvfreeze/gpu/detail/chunk_rows_kernels.cuh>
#include <kvfreeze/gpu/detail/hear_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_recall_step.cuh>
#include <kvfreeze/gpu/detail/launch_step.cuh>
#include <kvfreeze/gpu/detail/vote_kernel.cuh>
#include <kvfreeze/gpu/exact_logits.cuh>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/policy_traits.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief A chunk's rows and digests come in; they are the lanes' when its queries are heard.
template <class C, class Input>
void launch_chunk(CacheStorage<C>& memory, LayerStep<C> const& s, ChunkRows<Input> const& chunk,
                  ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  CacheMemory const view = memory.view();
  auto const lanes = static_cast<unsigned>(s.lanes);
  auto const tokens = static_cast<unsigned>(chunk.tokens);
  constexpr int threads = 128;
  begin_chunk_kernel<C, Input, threads>
      <<<lanes, threads, 0, stream.get()>>>(g, view, s, chunk, memory.status());
  check_launch("begin_chunk_kernel");
  constexpr unsigned rows = threads / 32;
  chunk_rows_kernel<C, Input, threads>
      <<<dim3((tokens + rows - 1) / rows, lanes), threads, 0, stream.get()>>>(g, view, s, chunk,
                                                                              memory.status());
  check_launch("chunk_rows_kernel");
  if constexpr (C::has_digest) {
    unsigned const groups = tokens / static_cast<unsigned>(C::Digest::group_rows) + 1;
    chunk_groups_kernel<C, Input, threads>
        <<<dim3(groups, lanes), threads, 0, stream.get()>>>(g, view, s, chunk);
    check_launch("chunk_groups_kernel");
  }
}

/// @brief One layer's chunk of the batch's only sequence: rows and digests, then the ladder is
/// asked whether it pays, and the last queries vote. @see host::settle_chunk
template <class C, class Input>
  requires C::has_levels
void launch_prefill(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                    ChunkRows<Input> const& chunk, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  LayerStep<C> s = memory.step().layer(layer, 1, memory.batch(), memory.steps());
  CacheMemory const view = memory.view();
  auto const lanes = static_cast<unsigned>(s.lanes);
  constexpr int threads = 128;
  if (C::ranks && g.room != 0) {
    make_way_kernel<C, threads><<<lanes, threads, 0, stream.get()>>>(g, view, s, chunk.tokens);
    check_launch("make_way_kernel");
  }
  launch_chunk(memory, s, chunk, stream);
  auto const hear = [&](Pass pass, int token) {
    s.pass = pass;
    vote_kernel<C, Input, threads><<<lanes, threads, 0, stream.get()>>>(g, view, s, chunk, token);
    check_launch("vote_kernel");
  };
  hear(Pass::look, chunk.tokens - 1);
  if constexpr (C::uniform) {  // nobody has a vote
    launch_coding(memory, s, false, stream);
  } else {
    launch_ranking(memory, scheduler, s, stream);
    for (int token = std::max(chunk.tokens - host::votes, 0); token < chunk.tokens; ++token) {
      hear(token + 1 == chunk.tokens ? Pass::last_vote : Pass::vote, token);
      launch_ranking(memory, scheduler, s, stream);
    }
  }
}

/// @brief The same without compact rows: as many of the last queries are heard as the scorer asks
/// for. @see host::vote
template <class C, class Input>
  requires(!C::has_levels)
void launch_prefill(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                    ChunkRows<Input> const& chunk, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  StepMemory<C> const& step = memory.step();
  LayerStep<C> const s = recall_step(memory, layer, 1);
  CacheMemory const view = memory.view();
  auto const lanes = static_cast<unsigned>(s.lanes);
  constexpr int threads = 128;
  if (g.room != 0) {
    retain_rows_kernel<C><<<lanes, retain_threads, 0, stream.get()>>>(
        g, view, scheduler, memory.scorer(), memory.batch(), memory.steps(),
        layer * g.lanes_per_layer, chunk.tokens, false);
    check_launch("retain_rows_kernel");
  }
  launch_chunk(memory, s, chunk, stream);
  end_chunk_kernel<C, Input, threads><<<lanes, threads, 0, stream.get()>>>(g, view, s, chunk);
  check_launch("end_chunk_kernel");
  if constexpr (C::needs_norms || C::needs_queries) {
    note_chunk_kernel<C, threads>
        <<<dim3(16, lanes), threads, 0, stream.get()>>>(g, view, s, memory.scorer(), chunk.tokens);
    check_launch("note_chunk_kernel");
  }
  constexpr bool heard = C::recalls_by_mass || C::notes_masses;
  int const queries = std::max(kvfreeze::detail::prompt_queries(memory.scorer()), 1);
  int const first = heard ? std::max(chunk.tokens - queries, 0) : chunk.tokens - 1;
  for (int token = first; token < chunk.tokens; ++token) {  // the last one describes the lane
    ask_kernel<C, Input, threads><<<lanes, threads, 0, stream.get()>>>(g, view, s, chunk, token);
    check_launch("ask_kernel");
    RecallLanes<C> const source{g, view, s};
    int const hidden = chunk.tokens - 1 - token;
    if constexpr (C::recalls_by_mass) {
      launch_recall(memory, scheduler, source, false, stream, hidden);
      heed_kernel<C, threads><<<lanes, threads, 0, stream.get()>>>(
          g, view, s, memory.scorer(), memory.recall().results(lanes).lanes.data());
      check_launch("heed_kernel");
    }
    if constexpr (C::notes_masses) {
      exact_logits_async<C::max_head_dim>(step.attended(lanes), step.decode_shape(),
                                          step.queries(lanes), stream);
      launch_hide(source, hidden, stream);
      launch_note_masses(memory, s, stream);
    }
    if constexpr (C::recalls && C::needs_entropy) {
      launch_note_entropy(memory, s, stream);
    }
  }
  launch_note_rows(memory, s, stream);
}

}  // namespace kvfreeze::gpu::detail
