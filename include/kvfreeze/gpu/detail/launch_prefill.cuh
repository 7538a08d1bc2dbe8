#pragma once

#include <kvfreeze/gpu/detail/chunk_groups_kernel.cuh>
#include <kvfreeze/gpu/detail/chunk_rows_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_step.cuh>
#include <kvfreeze/gpu/detail/vote_kernel.cuh>
#include <kvfreeze/host/context.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief One layer's chunk of the batch's only sequence: rows and digests, then the ladder is
/// asked whether it pays, and the last queries vote. @see host::settle_chunk
template <class C, class Input>
void launch_prefill(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                    ChunkRows<Input> const& chunk, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  LayerStep<C> s = memory.step().layer(layer, 1, memory.batch(), memory.steps());
  CacheMemory const view = memory.view();
  auto const lanes = static_cast<unsigned>(s.lanes);
  auto const tokens = static_cast<unsigned>(chunk.tokens);
  constexpr int threads = 128;
  if (g.room != 0) {
    make_way_kernel<C, threads><<<lanes, threads, 0, stream.get()>>>(g, view, s, chunk.tokens);
    check_launch("make_way_kernel");
  }
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

}  // namespace kvfreeze::gpu::detail
