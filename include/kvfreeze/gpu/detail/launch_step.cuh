#pragma once

/// @file
/// @brief The launches of a step: one layer's fast clock, and the slow clock of the whole model.

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/cache_memory.cuh>
#include <kvfreeze/gpu/detail/launch_rank.cuh>
#include <kvfreeze/gpu/detail/page_lists_kernel.cuh>
#include <kvfreeze/gpu/detail/plan_kernels.cuh>
#include <kvfreeze/gpu/detail/release_kernel.cuh>
#include <kvfreeze/gpu/detail/settle_kernels.cuh>
#include <kvfreeze/gpu/detail/uniform_kernels.cuh>
#include <kvfreeze/gpu/digest_scan.cuh>

#include <cuda/stream_ref>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief Estimates the rows of all lanes of the step and lets the ladder decide. Lanes are
/// described.
template <class C>
void launch_ranking(CacheStorage<C>& memory, typename C::Scheduler const& scheduler,
                    LayerStep<C> const& s, ::cuda::stream_ref stream) {
  StepMemory<C> const& step = memory.step();
  RankMemory<C> const& rank = step.rank();
  launch_rank<C>({memory.geometry(), memory.view(), s, scheduler, rank.verdicts(), rank.marks()},
                 step.rank_plan(), rank.barriers(), rank.span_masses(), rank.grid(), stream);
}

/// @brief Every row that is not protected is coded: one launch. Lanes are described.
/// @param returns as in uniform_kernel()
template <class C>
void launch_coding(CacheStorage<C>& memory, LayerStep<C> const& s, bool returns,
                   ::cuda::stream_ref stream) {
  constexpr int threads = 128;
  uniform_kernel<C, threads><<<static_cast<unsigned>(s.lanes), threads, 0, stream.get()>>>(
      memory.geometry(), memory.view(), s, returns);
  check_launch("uniform_kernel");
}

/// @brief Logits of coded rows: two launches.
template <class C>
void launch_coded_logits(CacheStorage<C>& memory, LayerStep<C> const& s,
                         ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  auto const lanes = static_cast<std::size_t>(s.lanes);
  Span<DigestLane const> const scans(s.scans, memory.step().attended_lanes(lanes));
  digest_scan_async<typename C::Digest>(scans, g.group, g.head_dim,
                                        static_cast<std::size_t>(g.max_groups), stream);
  constexpr int threads = 128;
  coded_logits_kernel<C, threads>
      <<<dim3(8, static_cast<unsigned>(lanes)), threads, 0, stream.get()>>>(g, memory.view(), s);
  check_launch("coded_logits_kernel");
}

/// @brief One layer's rows come in, and what their queries need rises: two launches; where nothing
/// is ranked four.
template <class C, class Input>
  requires C::has_levels
void launch_recall_ahead(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                         int sequences, NewRows<Input> const& rows, ::cuda::stream_ref stream) {
  LayerStep<C> const s = memory.step().layer(layer, sequences, memory.batch(), memory.steps());
  constexpr int threads = 128;
  append_kernel<C, Input, threads><<<static_cast<unsigned>(s.lanes), threads, 0, stream.get()>>>(
      memory.geometry(), memory.view(), s, scheduler, rows, memory.status());
  check_launch("append_kernel");
  if constexpr (C::uniform) {
    launch_coding(memory, s, true, stream);
    launch_coded_logits(memory, s, stream);
  } else {
    launch_ranking(memory, scheduler, s, stream);
  }
}

/// @brief Attention over the rows that the recall left, or over the compact ones alone.
/// @param lse as in decode_attention_async()
template <class C>
void launch_attention(CacheStorage<C>& memory, int sequences, bool compact_only, Span<float> out,
                      Span<float> lse, ::cuda::stream_ref stream) {
  StepMemory<C>& step = memory.step();
  auto const lanes = static_cast<std::size_t>(sequences) *
                     static_cast<std::size_t>(memory.geometry().lanes_per_layer);
  DecodeShape shape = step.decode_shape();
  shape.compact_only = compact_only;
  decode_attention_async<C::max_head_dim>(step.attended(lanes), shape, step.queries(lanes), out,
                                          lse, step.tickets(), step.workspace(), stream);
}

/// @brief One layer's step: append, ranking with recall or coding, attention.
template <class C, class Input>
  requires C::has_levels
void launch_layer_step(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                       int sequences, NewRows<Input> const& rows, Span<float> out,
                       ::cuda::stream_ref stream) {
  launch_recall_ahead(memory, scheduler, layer, sequences, rows, stream);
  launch_attention(memory, sequences, false, out, Span<float>{}, stream);
}

/// @brief Lists the pages of the exact rows that the recall left.
template <class C>
void launch_page_lists(CacheStorage<C>& memory, int layer, int sequences, PageLists const& lists,
                       ::cuda::stream_ref stream) {
  LayerStep<C> const s = memory.step().layer(layer, sequences, memory.batch(), memory.steps());
  constexpr int threads = 128;
  page_lists_kernel<C, threads><<<static_cast<unsigned>(s.lanes), threads, 0, stream.get()>>>(
      memory.geometry(), memory.view(), s, lists);
  check_launch("page_lists_kernel");
}

/// @brief Entropies of a step's logits, for which there is room. @return [sequences], or null:
/// there are no logits
template <class C, class Input>
Entropy const* launch_entropies(CacheStorage<C>& memory, int sequences, Span<Input const> logits,
                                ::cuda::stream_ref stream) {
  if (logits.empty()) {
    return nullptr;
  }
  StepMemory<C> const& step = memory.step();
  auto const count = static_cast<std::size_t>(sequences);
  entropy_async<Input>(logits, logits.size() / count, step.entropies(count),
                       step.entropy_workspace(), stream);
  return step.entropies(count).data();
}

/// @brief The slow clock: plans are carried out, reports written, recoveries begun.
/// @param tokens of the step, for each sequence
template <class C, class Input>
void launch_advance(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int sequences,
                    int tokens, Span<Input const> logits, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  CacheMemory const view = memory.view();
  Entropy const* const entropies = launch_entropies<C, Input>(memory, sequences, logits, stream);
  constexpr int threads = 128;
  dim3 const grid(static_cast<unsigned>(g.lanes), static_cast<unsigned>(sequences));
  if constexpr (C::ranks) {
    settle_kernel<C, threads>
        <<<grid, threads, 0, stream.get()>>>(g, view, memory.batch(), memory.steps());
    check_launch("settle_kernel");
  }
  if (g.limits_transfers || (C::ranks && g.room != 0)) {
    plan_kernel<C, threads><<<static_cast<unsigned>(sequences), threads, 0, stream.get()>>>(
        g, view, memory.batch(), memory.steps());
    check_launch("plan_kernel");
  }
  if constexpr (C::ranks) {
    if (g.room != 0) {
      give_way_kernel<C, threads><<<grid, threads, 0, stream.get()>>>(g, view, memory.batch());
      check_launch("give_way_kernel");
    }
  }
  end_step_kernel<C, threads><<<static_cast<unsigned>(sequences), threads, 0, stream.get()>>>(
      g, view, scheduler, memory.batch(), memory.steps(), memory.sequences(), entropies,
      memory.status(), memory.reports(), tokens);
  check_launch("end_step_kernel");
  release_kernel<C, threads><<<grid, threads, 0, stream.get()>>>(
      g, view, memory.batch(), memory.steps(), memory.sequences(), memory.reports());
  check_launch("release_kernel");
  memory.rewind_batch(sequences, stream);
}

}  // namespace kvfreeze::gpu::detail
