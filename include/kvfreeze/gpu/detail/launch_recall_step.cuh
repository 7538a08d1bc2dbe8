#pragma once

/// @file
/// @brief The launches of a step of a cache without compact rows: one layer's fast clock, and the
/// slow clock of the whole model.

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/cache_memory.cuh>
#include <kvfreeze/gpu/detail/cooperative_launch.cuh>
#include <kvfreeze/gpu/detail/force_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/hide_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/lane_entropy.cuh>
#include <kvfreeze/gpu/detail/launch_logits.cuh>
#include <kvfreeze/gpu/detail/launch_step.cuh>
#include <kvfreeze/gpu/detail/layer_parts.cuh>
#include <kvfreeze/gpu/detail/note_masses_kernel.cuh>
#include <kvfreeze/gpu/detail/plan_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/query_window.cuh>
#include <kvfreeze/gpu/detail/recall_lanes.cuh>
#include <kvfreeze/gpu/detail/recall_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/retain_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>
#include <kvfreeze/gpu/detail/thaw_kernel.cuh>
#include <kvfreeze/gpu/exact_logits.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/gpu/select.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Which rows the step wants exact, by the digests; and their thaw.
/// @param thaws are rows fetched, or only listed?
/// @param hidden newest rows that the query does not see: it is one of a chunk's
template <class C>
void launch_recall(CacheStorage<C>& memory, typename C::Scheduler const& scheduler,
                   RecallLanes<C> const& source, bool thaws, ::cuda::stream_ref stream,
                   int hidden = 0) {
  Geometry const& g = source.geometry;
  RecallMemory<C> const& recall = memory.recall();
  auto const lanes = static_cast<std::size_t>(source.step.lanes);
  MassBatch const masses = recall.masses(lanes);
  RecallBatch const batch = recall.batch(lanes);
  MassResults const asked{{}, {}, {}, recall.histograms(lanes), recall.entropies(lanes)};
  RecallRows<C> rows{
      .lanes = source,
      .exact = {},
      .hidden = hidden,
      .masses = mass_plan(masses, asked, MassWorkspace(masses, recall.mass_workspace().data())),
      .decide = decide_recall(scheduler, source, batch, recall.results(lanes), recall.workspace()),
      .scorer = memory.scorer(),
      .barriers = recall.barriers(),
      .rest = RecallWorkspace(batch, recall.workspace().data()).rest,
      .max_granules = batch.max_granules,
      .thaws = thaws};
  dim3 const grid = recall.mass_grid(lanes);
  with_slot_dim<C::max_head_dim>(g.head_dim, [&](auto dim) {
    using Tiles = LogitTiles<typename LayerStep<C>::Lane, dim()>;
    rows.exact = logit_arguments<Tiles>(g, source.step.queries);
    launch_blocks(recall_rows_kernel<C, dim()>, "recall_rows_kernel", grid, rank_threads,
                  recall_shared_bytes<C, dim()>(g), grid.x > 1, stream, rows);
  });
}

/// @brief Logits of the exact rows, in slot order, become masses and evidence.
template <class C>
void launch_note_masses(CacheStorage<C>& memory, LayerStep<C> const& s, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  RecallMemory<C> const& recall = memory.recall();
  auto const lanes = static_cast<std::size_t>(s.lanes);
  MassBatch const masses = recall.masses(lanes);
  MassResults const asked{{}, {}, {}, {}, recall.entropies(lanes)};
  MassPlan const plan =
      mass_plan(masses, asked, MassWorkspace(masses, recall.mass_workspace().data()));
  dim3 const grid = recall.mass_grid(lanes);
  launch_blocks(note_masses_kernel<C>, "note_masses_kernel", grid, rank_threads,
                recall.scale_bytes(), grid.x > 1, stream, AttendedRows<C>{g, memory.view(), s},
                plan, memory.scorer(), recall.barriers());
}

/// @brief Exact rows are told to scorers that remember them, where no logits are asked for.
template <class C>
void launch_note_rows([[maybe_unused]] CacheStorage<C>& memory,
                      [[maybe_unused]] LayerStep<C> const& s,
                      [[maybe_unused]] ::cuda::stream_ref stream) {
  if constexpr (C::notes_rows) {
    constexpr int threads = 128;
    note_rows_kernel<C, threads>
        <<<dim3(16, static_cast<unsigned>(s.lanes)), threads, 0, stream.get()>>>(
            memory.geometry(), memory.view(), s, memory.scorer());
    check_launch("note_rows_kernel");
  }
}

/// @brief The entropies of the masses that recall made go into the lanes' running means.
template <class C>
void launch_note_entropy(CacheStorage<C>& memory, LayerStep<C> const& s,
                         ::cuda::stream_ref stream) {
  auto const lanes = static_cast<std::size_t>(s.lanes);
  constexpr std::size_t threads = 128;
  note_entropy_kernel<C, static_cast<int>(threads)>
      <<<static_cast<unsigned>((lanes + threads - 1) / threads), threads, 0, stream.get()>>>(
          memory.geometry(), memory.view(), s, memory.recall().entropies(lanes).data());
  check_launch("note_entropy_kernel");
}

/// @brief One layer's rows come in, and what their queries want comes back.
template <class C, class Input>
void launch_append(CacheStorage<C>& memory, typename C::Scheduler const& scheduler,
                   LayerStep<C> const& s, NewRows<Input> const& rows, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  auto const lanes = static_cast<unsigned>(s.lanes);
  CacheMemory const view = memory.view();
  constexpr int threads = 128;
  append_kernel<C, Input, threads>
      <<<lanes, threads, 0, stream.get()>>>(g, view, s, scheduler, rows, memory.status());
  check_launch("append_kernel");
  if constexpr (C::recalls) {
    launch_recall(memory, scheduler, RecallLanes<C>{g, view, s}, true, stream);
  } else {
    constexpr int thaw_threads = 256;
    thaw_kernel<C, thaw_threads>
        <<<lanes, thaw_threads, 0, stream.get()>>>(g, view, s, scheduler, memory.scorer());
    check_launch("thaw_kernel");
  }
}

/// @brief What the rows that attention saw, and its logits, are evidence of.
template <class C>
void launch_evidence(CacheStorage<C>& memory, LayerStep<C> const& s, ::cuda::stream_ref stream) {
  [[maybe_unused]] Geometry const& g = memory.geometry();
  [[maybe_unused]] auto const lanes = static_cast<unsigned>(s.lanes);
  [[maybe_unused]] constexpr int threads = 128;
  if constexpr (C::needs_queries) {
    slide_window_kernel<C, threads>
        <<<dim3(16, lanes), threads, 0, stream.get()>>>(g, memory.view(), s, memory.scorer());
    check_launch("slide_window_kernel");
  }
  launch_note_rows(memory, s, stream);
  if constexpr (C::notes_masses) {
    launch_note_masses(memory, s, stream);
  }
  if constexpr (C::recalls && C::needs_entropy) {
    launch_note_entropy(memory, s, stream);
  }
}

/// @brief A layer's step as its kernels are told of it.
template <class C>
LayerStep<C> recall_step(CacheStorage<C>& memory, int layer, int sequences) {
  LayerStep<C> s = memory.step().layer(layer, sequences, memory.batch(), memory.steps());
  s.tails = memory.recall().tails();
  return s;
}

/// @brief One layer's step: append, recall, thaw, attention, evidence.
template <class C, class Input>
  requires(!C::has_levels)
void launch_layer_step(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                       int sequences, NewRows<Input> const& rows, Span<float> out,
                       ::cuda::stream_ref stream) {
  StepMemory<C>& step = memory.step();
  LayerStep<C> const s = recall_step(memory, layer, sequences);
  auto const lanes = static_cast<std::size_t>(s.lanes);
  launch_append(memory, scheduler, s, rows, stream);
  decode_attention_async<C::max_head_dim>(step.attended(lanes), step.decode_shape(),
                                          step.queries(lanes), out, Span<float>{}, step.tickets(),
                                          step.workspace(), stream);
  launch_evidence(memory, s, stream);
}

/// @brief The same for attention of somebody else's: logits that are evidence are computed for it.
template <class C, class Input>
  requires(!C::has_levels)
void launch_recall_ahead(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                         int sequences, NewRows<Input> const& rows, ::cuda::stream_ref stream) {
  LayerStep<C> const s = recall_step(memory, layer, sequences);
  launch_append(memory, scheduler, s, rows, stream);
  if constexpr (C::notes_masses) {
    StepMemory<C> const& step = memory.step();
    auto const lanes = static_cast<std::size_t>(s.lanes);
    exact_logits_async<C::max_head_dim>(step.attended(lanes), step.decode_shape(),
                                        step.queries(lanes), stream);
  }
  launch_evidence(memory, s, stream);
}

/// @brief The slow clock: what is not retained freezes, reports are written, recoveries begun.
/// @param tokens of the step, for each sequence
template <class C, class Input>
  requires(!C::has_levels)
void launch_advance(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int sequences,
                    int tokens, Span<Input const> logits, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  CacheMemory const view = memory.view();
  Entropy const* const entropies = launch_entropies<C, Input>(memory, sequences, logits, stream);
  dim3 const grid(static_cast<unsigned>(g.lanes), static_cast<unsigned>(sequences));
  constexpr int threads = 128;
  if constexpr (C::needs_entropy) {
    mean_entropy_kernel<C, threads>
        <<<static_cast<unsigned>(sequences), threads, 0, stream.get()>>>(g, view, memory.batch());
    check_launch("mean_entropy_kernel");
  }
  if constexpr (C::needs_layer_parts) {
    dim3 const layers(static_cast<unsigned>(g.layers), static_cast<unsigned>(sequences));
    layer_parts_kernel<C><<<layers, retain_threads, 0, stream.get()>>>(
        g, view, scheduler, memory.scorer(), memory.batch(), memory.steps());
    check_launch("layer_parts_kernel");
  }
  if (g.room != 0 || g.limits_transfers) {
    plan_rows_kernel<C, threads><<<static_cast<unsigned>(sequences), threads, 0, stream.get()>>>(
        g, view, scheduler, memory.batch(), memory.steps());
    check_launch("plan_rows_kernel");
  }
  retain_rows_kernel<C><<<grid, retain_threads, 0, stream.get()>>>(
      g, view, scheduler, memory.scorer(), memory.batch(), memory.steps(), 0, 1, true);
  check_launch("retain_rows_kernel");
  end_step_kernel<C, threads><<<static_cast<unsigned>(sequences), threads, 0, stream.get()>>>(
      g, view, scheduler, memory.batch(), memory.steps(), memory.sequences(), entropies,
      memory.status(), memory.reports(), tokens);
  check_launch("end_step_kernel");
  force_rows_kernel<C, threads><<<grid, threads, 0, stream.get()>>>(
      g, view, scheduler, memory.batch(), memory.steps(), memory.sequences(), memory.reports());
  check_launch("force_rows_kernel");
  memory.rewind_batch(sequences, stream);
}

}  // namespace kvfreeze::gpu::detail
