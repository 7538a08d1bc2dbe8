#pragma once

/// @file
/// @brief The end of a step: what the lanes did is summed up, the trigger asked, recovery begun,
/// the report written where the host reads it.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/gpu/entropy_result.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/report.hpp>
#include <kvfreeze/trigger/signals.hpp>

#include <cuda/std/type_traits>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What the device keeps for one sequence beside its lanes.
template <class C>
struct SequenceState {
  static_assert(::cuda::std::is_trivially_copyable_v<typename C::Trigger>,
                "kvfreeze::gpu: a trigger must be trivially copyable, its observe() KVFREEZE_HD");

  std::int32_t length = 0;             ///< tokens of finished steps
  std::uint32_t entropies = 0;         ///< observations in the running mean
  float entropy_mean = 0.0F;           ///< nats
  Recovery recovery = Recovery::none;  ///< that the last step asked for
  typename C::Trigger trigger;
};

/// A step's report as the device writes it. `step` comes last: it says that the others are there.
struct DeviceReport {
  std::int32_t length = 0;
  RowCounts rows;
  std::uint64_t pages[segments] = {};
  std::uint64_t touched_bytes = 0;
  std::uint64_t moved_in_bytes = 0;
  std::uint64_t moved_out_bytes = 0;
  std::uint64_t thawed_rows = 0;
  std::uint64_t frozen_rows = 0;
  std::uint64_t deferred_rows = 0;
  float missed_mass = 0.0F;
  float missed_mass_max = 0.0F;
  float water_level = 0.0F;
  Binding binding = Binding::nothing;
  bool has_logits = false;
  float entropy = 0.0F;
  float entropy_change = 0.0F;
  float top_probability = 0.0F;
  Recovery recovery = Recovery::none;
  std::uint32_t status = 0;
  std::uint32_t step = 0;
};

/// Sums of a block's threads, by atomics on shared memory.
struct StepSums {
  unsigned long long exact, compact, absent;
  unsigned long long pages[segments];
  unsigned long long touched, moved_in, moved_out, thawed, frozen, deferred;
};

/// @brief Ends the step of each sequence of the batch. One block a sequence.
/// @param entropies [sequences of the batch], or null: the step has no logits
/// @param reports [max_sequences][2], in memory of the host; written by turns
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void end_step_kernel(
    Geometry g, CacheMemory memory, typename C::Scheduler scheduler, std::uint32_t const* batch,
    std::uint32_t* steps, SequenceState<C>* sequences, Entropy const* entropies,
    std::uint32_t const* status, DeviceReport* reports) {
  __shared__ StepSums sums;
  __shared__ float missed[Threads];
  std::uint32_t const index = batch[blockIdx.x];
  SequenceState<C>& sequence = sequences[index];
  LaneState const* const lanes =
      memory.lanes + static_cast<std::size_t>(index) * static_cast<std::size_t>(g.lanes);
  int const thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    sums = StepSums{};
  }
  __syncthreads();
  float missed_sum = 0.0F;  // of thread 0: lanes in order, as on the host
  float missed_max = 0.0F;
  for (int first = 0; first < g.lanes; first += Threads) {
    int const i = first + thread;
    if (i < g.lanes) {
      LaneState const& lane = lanes[i];
      int compact = 0;
      for (int level = 0; level < C::levels; ++level) {
        compact += lane.codes[level];
      }
      auto const add = [](unsigned long long& sum, std::uint64_t x) {
        if (x != 0) {
          atomicAdd(&sum, static_cast<unsigned long long>(x));
        }
      };
      add(sums.exact, static_cast<std::uint64_t>(lane.slots));
      add(sums.compact, static_cast<std::uint64_t>(compact));
      add(sums.absent, static_cast<std::uint64_t>(lane.rows - lane.slots - compact));
      for (int s = 0; s < segments; ++s) {
        add(sums.pages[s], min(lane.pages[s], pages_needed(g, lane, s)));
      }
      add(sums.touched, lane.touched);
      add(sums.moved_in, lane.moved_in);
      add(sums.moved_out, lane.moved_out);
      add(sums.thawed, lane.thawed);
      add(sums.frozen, lane.frozen);
      add(sums.deferred, lane.deferred);
      missed[thread] = lane.missed;
    }
    __syncthreads();
    if (thread == 0) {
      for (int j = 0; j < min(Threads, g.lanes - first); ++j) {
        missed_sum = __fadd_rn(missed_sum, missed[j]);
        missed_max = fmaxf(missed_max, missed[j]);
      }
    }
    __syncthreads();
  }
  if (thread != 0) {
    return;
  }
  std::uint32_t const step = steps[index] + 1;
  DeviceReport report;
  report.length = sequence.length + 1;
  report.rows = {sums.exact, sums.compact, sums.absent, 0, 0};
  for (int s = 0; s < segments; ++s) {
    report.pages[s] = sums.pages[s];
  }
  report.touched_bytes = sums.touched;
  report.moved_in_bytes = sums.moved_in;
  report.moved_out_bytes = sums.moved_out;
  report.thawed_rows = sums.thawed * C::page;
  report.frozen_rows = sums.frozen * C::page;
  report.deferred_rows = sums.deferred * C::page;
  report.missed_mass = kvfreeze::detail::quotient(missed_sum, static_cast<float>(g.lanes));
  report.missed_mass_max = missed_max;
  float const own = kvfreeze::detail::base_level(scheduler);
  report.water_level = own;
  report.binding = sums.deferred > 0 ? Binding::resident_bytes
                   : own > 0.0F      ? Binding::missed_mass
                                     : Binding::nothing;
  StepSignals signals;
  signals.step = step;
  signals.length = report.length;
  signals.missed_mass = report.missed_mass;
  signals.missed_mass_max = missed_max;
  if (entropies != nullptr && entropies[blockIdx.x].status == EntropyStatus::valid) {
    Entropy const& found = entropies[blockIdx.x];
    signals.has_logits = report.has_logits = true;
    signals.entropy = report.entropy = static_cast<float>(found.entropy_nats);
    signals.top_probability = report.top_probability = static_cast<float>(found.top_probability);
    float const above = __fsub_rn(report.entropy, sequence.entropy_mean);
    signals.entropy_change = report.entropy_change = sequence.entropies == 0 ? 0.0F : above;
    sequence.entropies = min(sequence.entropies + 1, 20U);
    sequence.entropy_mean =
        __fadd_rn(sequence.entropy_mean,
                  kvfreeze::detail::quotient(above, static_cast<float>(sequence.entropies)));
  }
  sequence.length = report.length;
  sequence.recovery = report.recovery = sequence.trigger.observe(signals);
  if (report.recovery != Recovery::none) {  // codes go before the report is read
    report.rows.frozen += report.rows.compact;
    report.rows.compact = 0;
    for (int level = 0; level < C::levels; ++level) {
      report.pages[pool_segment(level)] = 0;
    }
  }
  steps[index] = step;
  report.status = *status;
  DeviceReport& out = reports[2 * index + step % 2];
  auto* const written = static_cast<std::uint32_t volatile*>(&out.step);
  *written = 0;
  __threadfence_system();
  out = report;  // its step is 0
  __threadfence_system();
  *written = step;
}

/// @brief Pages that lanes do not need go back: here, where no lane takes any. And where a trigger
/// asked for it, codes go and frozen rows are first in line to come back. One block a lane.
/// @see host::recover
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void recover_kernel(
    Geometry g, CacheMemory memory, std::uint32_t const* batch, SequenceState<C> const* sequences) {
  std::uint32_t const sequence = batch[blockIdx.y];
  bool const recovers = sequences[sequence].recovery != Recovery::none;
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  int const thread = static_cast<int>(threadIdx.x);
  if (thread < C::levels) {
    ref.lane->codes[thread] = recovers ? 0 : ref.lane->codes[thread];
    shrink(ref, memory.pool, pool_segment(thread), ref.lane->codes[thread]);
  } else if (thread == C::levels) {
    shrink(ref, memory.pool, rows_segment, ref.lane->slots + 1);
  }
  if (!recovers) {
    return;
  }
  int forced = 0;
  for (int i = thread; i < ref.lane->rows; i += Threads) {
    std::uint8_t state = ref.states[i];
    Fidelity const fidelity = host::GranuleState::fidelity(state);
    if (fidelity == Fidelity::frozen || fidelity == Fidelity::compact) {
      state = host::GranuleState::with(state, Fidelity::frozen);
      forced += (state & host::GranuleState::forced) == 0 ? 1 : 0;
      ref.states[i] = static_cast<std::uint8_t>(state | host::GranuleState::forced);
    }
  }
  if (forced != 0) {
    atomicAdd(&ref.lane->forced, static_cast<std::uint32_t>(forced));
  }
}

}  // namespace kvfreeze::gpu::detail
