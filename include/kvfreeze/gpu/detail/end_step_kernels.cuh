#pragma once

/// @file
/// @brief The end of a step: what the lanes did is summed up, the trigger asked, recovery begun,
/// the report written where the host reads it.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/gpu/detail/page_plan.cuh>
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
  std::uint32_t recovered = 0;         ///< lanes that have done their part of it
  typename C::Trigger trigger;

  // For triggers that rewind, and for truncations where one may.
  static constexpr std::int32_t no_rewind = -1;
  std::int32_t checkpoints[2] = {};    ///< lengths at which counters were saved, newest first
  std::int32_t rewind_to = no_rewind;  ///< least length that it went back to and its caller did not
  bool rewinds = false;                ///< the last step goes back to `length`
  bool saves = false;                  ///< the last step is a checkpoint
  bool goes_back = false;              ///< the cut to `length` is to the older checkpoint
  bool restores = false;               ///< the cut to `length` is to the newer checkpoint
  std::int32_t behind = 0;             ///< tokens by which the caller's length is larger
};

/// @brief Says that a sequence goes back to `length`; cut_kernel() does. @see host::rewalk
template <class C>
__device__ void begin_cut(SequenceState<C>& sequence, int length) {
  sequence.length = length;
  if constexpr (C::rewalks) {
    sequence.goes_back = sequence.checkpoints[0] > length;
    if (sequence.goes_back) {
      std::int32_t const older = sequence.checkpoints[1];
      sequence.checkpoints[0] = older > length ? 0 : older;
      sequence.checkpoints[1] = 0;
    }
    sequence.restores = length > 0 && sequence.checkpoints[0] == length;
  }
}

/// @brief After the trigger's answer: does the sequence rewind, and how far? Is it time for a
/// checkpoint? @see host::end_step, host::rewalk_length, host::save_checkpoint
/// @param step that ends, counted from 0
template <class C>
__device__ void rewind_or_save(Geometry const& g, SequenceState<C>& sequence, std::uint32_t step) {
  int const rewind = kvfreeze::detail::rewind_tokens(sequence.trigger);
  sequence.rewinds = sequence.recovery == Recovery::rewalk;
  sequence.saves = !sequence.rewinds && step % static_cast<std::uint32_t>(max(rewind, 1)) == 0;
  if (sequence.saves) {
    sequence.checkpoints[1] = sequence.checkpoints[0];
    sequence.checkpoints[0] = sequence.length;
  }
  if (sequence.rewinds) {
    int const latest = sequence.length - rewind;
    int length = max(latest, min(sequence.length, 1));
    for (int i = 1; i >= 0; --i) {
      std::int32_t const checkpoint = sequence.checkpoints[i];
      length = checkpoint > 0 && checkpoint <= latest ? checkpoint : length;
    }
    if (C::discards && length % C::page != 0) {  // a granule that is gone cannot be cut
      length = min(max(length - length % C::page, C::page), sequence.length);
    }
    if constexpr (C::spills) {
      int const reach = sequence.length + sequence.behind - g.rewind_reach;
      length = min(max(length, reach), sequence.length);
      sequence.behind += sequence.length - length;
    }
    begin_cut(sequence, length);
    bool const first = sequence.rewind_to == SequenceState<C>::no_rewind;
    sequence.rewind_to = first ? length : min(length, sequence.rewind_to);
  }
}

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
  std::int32_t rewind_to = -1;  ///< the caller has to go back to this length; -1: it need not
  std::uint32_t status = 0;
  std::uint32_t step = 0;
};

/// Sums of a block's threads, by atomics on shared memory.
struct StepSums {
  unsigned long long exact, compact, absent, asleep, evicted;
  unsigned long long pages[segments];
  unsigned long long touched, moved_in, moved_out, thawed, frozen, deferred, over_cap;
};

/// @brief Ends the step of each sequence of the batch. One block a sequence.
/// @param entropies [sequences of the batch], or null: the step has no logits
/// @param reports [max_sequences][2], in memory of the host; written by turns
/// @param tokens of the step, for each sequence
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void end_step_kernel(
    Geometry g, CacheMemory memory, typename C::Scheduler scheduler, std::uint32_t const* batch,
    std::uint32_t* steps, SequenceState<C>* sequences, Entropy const* entropies,
    std::uint32_t const* status, DeviceReport* reports, int tokens) {
  __shared__ StepSums sums;
  __shared__ float missed[Threads];
  __shared__ float cosines[Threads];
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
  float cosine_sum = 0.0F;
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
      int const exact = exact_rows<C>(lane);
      std::uint64_t const asleep = static_cast<std::uint64_t>(lane.asleep) * C::page;
      int const evicted = lane.evicted * C::page;
      add(sums.exact, static_cast<std::uint64_t>(exact));
      add(sums.compact, static_cast<std::uint64_t>(compact));
      add(sums.absent, static_cast<std::uint64_t>(lane.rows - exact - compact - evicted) - asleep);
      add(sums.evicted, static_cast<std::uint64_t>(evicted));
      add(sums.asleep, asleep);
      for (int s = 0; s < pool_segment(C::levels); ++s) {
        add(sums.pages[s], kept_pages<C>(g, lane, s));
      }
      add(sums.touched, lane.touched);
      add(sums.moved_in, lane.moved_in);
      add(sums.moved_out, lane.moved_out);
      add(sums.thawed, lane.thawed);
      add(sums.frozen, lane.frozen);
      add(sums.deferred, lane.deferred);
      add(sums.over_cap, lane.over_cap ? 1U : 0U);
      missed[thread] = lane.missed;
      cosines[thread] = lane.cosine;
    }
    __syncthreads();
    if (thread == 0) {
      for (int j = 0; j < min(Threads, g.lanes - first); ++j) {
        missed_sum = __fadd_rn(missed_sum, missed[j]);
        missed_max = fmaxf(missed_max, missed[j]);
        cosine_sum = __fadd_rn(cosine_sum, cosines[j]);
      }
    }
    __syncthreads();
  }
  if (thread != 0) {
    return;
  }
  float const own = g.room != 0 ? kvfreeze::detail::capped_level(scheduler)
                                : kvfreeze::detail::base_level(scheduler);
  float const water = lanes[0].water;
  std::uint32_t const step = steps[index] + 1;
  DeviceReport report;
  report.length = sequence.length + tokens;
  report.rows = {sums.exact, sums.compact, sums.absent, sums.asleep, sums.evicted};
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
  report.water_level = fmaxf(own, water);
  report.binding = water > own || sums.over_cap != 0 ? Binding::resident_bytes
                   : sums.deferred > 0               ? Binding::transfer_bytes
                   : own > 0.0F                      ? Binding::missed_mass
                                                     : Binding::nothing;
  StepSignals signals;
  signals.step = step;
  signals.length = report.length;
  signals.missed_mass = report.missed_mass;
  signals.missed_mass_max = missed_max;
  if constexpr (C::needs_cosine) {
    signals.query_cosine = kvfreeze::detail::quotient(cosine_sum, static_cast<float>(g.lanes));
  }
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
  if (report.recovery != Recovery::none && g.room == 0) {  // codes go before the report is read
    report.rows.frozen += report.rows.compact;
    report.rows.compact = 0;
    for (int level = 0; level < C::levels; ++level) {
      report.pages[pool_segment(level)] = 0;
    }
  }
  if constexpr (C::rewalks) {
    rewind_or_save<C>(g, sequence, step - 1U);
    report.length = sequence.length;
    report.rewind_to = sequence.rewind_to;
  }
  steps[index] = step;
  report.status = *status;
  DeviceReport& out = reports[2 * index + step % 2];
  auto* const written = static_cast<std::uint32_t volatile*>(&out.step);
  *written = 0;
  __threadfence_system();
  out = report;  // its step is 0
  if constexpr (C::reports_last) {
    sequence.recovered = 0;  // end_report() has the last word
  } else {
    __threadfence_system();
    *written = step;
  }
}

}  // namespace kvfreeze::gpu::detail
