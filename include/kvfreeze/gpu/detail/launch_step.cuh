#pragma once

/// @file
/// @brief The launches of a step: one layer's fast clock, and the slow clock of the whole model.

#include <kvfreeze/gpu/decode_attention.cuh>
#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/cache_memory.cuh>
#include <kvfreeze/gpu/detail/launch_rank.cuh>
#include <kvfreeze/gpu/detail/settle_kernels.cuh>

#include <cuda/stream_ref>

#include <cstddef>

namespace kvfreeze::gpu::detail {

/// @brief One layer's step, in three launches: append, ranking with recall, attention.
template <class C, class Input>
void launch_layer_step(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int layer,
                       int sequences, NewRows<Input> const& rows, Span<float> out,
                       ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  StepMemory<C>& step = memory.step();
  LayerStep<C> const s = step.layer(layer, sequences, memory.batch(), memory.steps());
  auto const lanes = static_cast<std::size_t>(s.lanes);
  CacheMemory const view = memory.view();
  constexpr int threads = 128;
  append_kernel<C, Input, threads><<<static_cast<unsigned>(lanes), threads, 0, stream.get()>>>(
      g, view, s, scheduler, rows, memory.status());
  check_launch("append_kernel");
  launch_rank<C>({g, view, s, scheduler}, step.mass_plan(), step.barriers(), step.rank_grid(),
                 stream);
  decode_attention_async(step.attended(lanes), step.decode_shape(), step.queries(lanes), out,
                         Span<float>{}, step.tickets(), step.workspace(), stream);
}

/// @brief The slow clock: plans are carried out, reports written, recoveries begun.
template <class C, class Input>
void launch_advance(CacheStorage<C>& memory, typename C::Scheduler const& scheduler, int sequences,
                    Span<Input const> logits, ::cuda::stream_ref stream) {
  Geometry const& g = memory.geometry();
  StepMemory<C>& step = memory.step();
  CacheMemory const view = memory.view();
  auto const count = static_cast<std::size_t>(sequences);
  Entropy const* entropies = nullptr;
  if (!logits.empty()) {
    std::size_t const vocabulary = logits.size() / count;
    step.reserve_entropy(count, vocabulary);
    entropy_async<Input>(logits, vocabulary, step.entropies(count), step.entropy_workspace(),
                         stream);
    entropies = step.entropies(count).data();
  }
  constexpr int threads = 128;
  dim3 const grid(static_cast<unsigned>(g.lanes), static_cast<unsigned>(sequences));
  settle_kernel<C, threads>
      <<<grid, threads, 0, stream.get()>>>(g, view, memory.batch(), memory.steps());
  check_launch("settle_kernel");
  end_step_kernel<C, threads><<<static_cast<unsigned>(sequences), threads, 0, stream.get()>>>(
      g, view, scheduler, memory.batch(), memory.steps(), memory.sequences(), entropies,
      memory.status(), memory.reports());
  check_launch("end_step_kernel");
  recover_kernel<C, threads>
      <<<grid, threads, 0, stream.get()>>>(g, view, memory.batch(), memory.sequences());
  check_launch("recover_kernel");
}

}  // namespace kvfreeze::gpu::detail
