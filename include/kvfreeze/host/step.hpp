#pragma once

#include <kvfreeze/detail/prefetch.hpp>
#include <kvfreeze/host/entropy.hpp>
#include <kvfreeze/host/plan.hpp>
#include <kvfreeze/host/prefill.hpp>
#include <kvfreeze/host/recover.hpp>
#include <kvfreeze/host/slow_clock.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <span>
#include <string>

namespace kvfreeze::host {

/// @brief Begins a lane's step: a repeated call of the same step takes its rows back first.
template <class C>
void begin_lane_step(LaneJob<C> const& job, int tokens) {
  Lane<C>& lane = job.lane();
  check_cut(job, job.sequence->length);
  cut_lane(job, job.sequence->length);
  job.scratch->commit(lane.rows + tokens);
  settle_lane(job);
  lane.ready = -1;
  lane.touched = lane.moved_in = lane.moved_out = 0;
  lane.thawed = lane.frozen = lane.deferred = 0;
  lane.missed = 0.0F;
  lane.over_cap = false;
  lane.refused = false;
  bool const limited = lane.allotment != unlimited;
  lane.transfer_left = limited ? lane.allotment * static_cast<std::size_t>(tokens) : lane.allotment;
}

/// Rows by fidelity of one lane.
template <class C>
RowCounts lane_counts(LaneRef<C> const& ref) noexcept {
  Lane<C> const& lane = *ref.lane;
  auto const page = static_cast<std::uint64_t>(C::page);
  RowCounts counts;
  counts.asleep = static_cast<std::uint64_t>(lane.asleep) * page;
  counts.evicted = static_cast<std::uint64_t>(lane.evicted) * page;
  counts.compact = static_cast<std::uint64_t>(ref.compact()) * page;
  auto const absent =
      static_cast<std::uint64_t>(ref.granules() - lane.exact) * page - counts.compact;
  counts.frozen = absent - counts.asleep - counts.evicted;
  if (lane.owed > 0 && lane.rows % C::page != 0 &&
      ref.fidelity(static_cast<std::uint32_t>(ref.granules() - 1)) == Fidelity::frozen) {
    auto const cut_off = page - static_cast<std::uint64_t>(lane.rows % C::page);
    counts.frozen -= cut_off;
    counts.exact = static_cast<std::uint64_t>(lane.rows) + cut_off - absent - counts.compact;
    return counts;
  }
  counts.exact = static_cast<std::uint64_t>(lane.rows) - absent - counts.compact;
  return counts;
}

inline RowCounts operator+(RowCounts a, RowCounts const& b) noexcept {
  a.exact += b.exact;
  a.compact += b.compact;
  a.frozen += b.frozen;
  a.asleep += b.asleep;
  a.evicted += b.evicted;
  return a;
}

/// @brief Checks that every lane has this step's rows. @return their number
template <class C>
int pending_tokens(Context<C> const& context, std::uint32_t index) {
  int const rows = context.memory.lane(index, 0).lane->rows;
  for (std::uint32_t i = 1; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
    int const other = context.memory.lane(index, i).lane->rows;
    if (other != rows) {
      auto const per_layer = static_cast<std::uint32_t>(context.geometry().lanes_per_layer);
      throw InvalidArgument("advance(): layer " + std::to_string(i / per_layer) + " lane " +
                            std::to_string(i % per_layer) + " holds " + std::to_string(other) +
                            " rows, layer 0 lane 0 holds " + std::to_string(rows) +
                            ": every layer must append before advance()");
    }
  }
  return rows - context.sequences[index].length;
}

/// Sums up what the lanes did in this step.
template <class C>
void sum_lanes(Context<C> const& context, std::uint32_t index, StepReport& report,
               StepSignals& signals) noexcept {
  Geometry const& g = context.geometry();
  float missed = 0.0F;
  float cosine = 0.0F;
  bool over_cap = false;
  bool carried = false;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(g.lanes); ++i) {
    LaneRef<C> const ref = context.memory.lane(index, i);
    Lane<C> const& lane = *ref.lane;
    report.touched_bytes += lane.touched;
    report.moved_in_bytes += lane.moved_in;
    report.moved_out_bytes += lane.moved_out;
    report.thawed_rows += static_cast<std::uint64_t>(lane.thawed) * C::page;
    report.frozen_rows += static_cast<std::uint64_t>(lane.frozen) * C::page;
    report.deferred_rows += static_cast<std::uint64_t>(lane.deferred) * C::page;
    missed += lane.missed;
    report.missed_mass_max = std::max(report.missed_mass_max, lane.missed);
    cosine += lane.cosine;
    over_cap = over_cap || lane.over_cap;
    carried = carried || (lane.deferred > 0 && !lane.over_cap);
  }
  auto const lanes = static_cast<float>(g.lanes);
  report.missed_mass = missed / lanes;
  float const own = context.sequences[index].share != unlimited
                        ? kvfreeze::detail::capped_level(context.scheduler)
                        : kvfreeze::detail::base_level(context.scheduler);
  report.water_level = std::max(context.sequences[index].water_level, own);
  if (over_cap || context.sequences[index].water_level > own) {
    report.binding = Binding::resident_bytes;
  } else if (carried) {
    report.binding = Binding::transfer_bytes;
  } else if (own > 0.0F) {
    report.binding = Binding::missed_mass;
  }
  signals.missed_mass = report.missed_mass;
  signals.missed_mass_max = report.missed_mass_max;
  signals.query_cosine = cosine / lanes;
}

/// Entropy of the logits and its change against the running mean.
template <class C>
void observe_logits_of_step(SequenceRecord<C>& sequence, std::span<float const> logits,
                            StepReport& report, StepSignals& signals) {
  if (logits.empty()) {
    return;
  }
  auto const result = entropy(logits);
  report.has_logits = true;
  report.entropy = static_cast<float>(result.entropy_nats);
  report.top_probability = static_cast<float>(result.top_probability);
  report.entropy_change = sequence.entropies == 0 ? 0.0F : report.entropy - sequence.entropy_mean;
  // The plain mean of the first twenty, then exponential.
  sequence.entropies = std::min(sequence.entropies + 1, 20U);
  sequence.entropy_mean +=
      (report.entropy - sequence.entropy_mean) / static_cast<float>(sequence.entropies);
  signals.has_logits = true;
  signals.entropy = report.entropy;
  signals.entropy_change = report.entropy_change;
  signals.top_probability = report.top_probability;
}

/// The mean of the lanes' entropies, for shares by entropy.
template <class C>
void note_lane_entropy(Context<C>& context, std::uint32_t index) noexcept {
  if constexpr (C::needs_entropy) {
    auto const lanes = static_cast<std::uint32_t>(context.geometry().lanes);
    float sum = 0.0F;
    for (std::uint32_t i = 0; i < lanes; ++i) {
      sum += context.memory.lane(index, i).lane->entropy.mean;
    }
    context.sequences[index].lane_entropy = sum / static_cast<float>(lanes);
  }
}

/// The cache's ledger.
template <class C>
Ledger count_bytes(Context<C> const& context) noexcept {
  Ledger ledger;
  ledger.scratch = context.memory.scratch_bytes();
  for (std::uint32_t i = 0; i < context.sequences.size(); ++i) {
    if (context.sequences[i].open) {
      context.memory.count(i, ledger);
    }
  }
  ledger.tier = context.tier.bytes();
  return ledger;
}

/// @brief Ends a step: slow clock, budgets, trigger, recovery, report.
///
/// A tier that fails while rows freeze leaves them exact; the step is finished all the same and
/// the error thrown at its end.
template <class C>
StepReport end_step(Context<C>& context, std::uint32_t index, std::span<float const> logits) {
  SequenceRecord<C>& sequence = context.sequences[index];
  int const tokens = pending_tokens(context, index);
  if (tokens <= 0) {
    throw InvalidArgument("advance(): nothing was appended since the last step");
  }
  StepReport report;
  StepSignals signals;
  observe_logits_of_step(sequence, logits, report, signals);  // throws before anything changes
  std::exception_ptr failure;
  auto const guarded = [&failure](auto&& work) {
    try {
      work();
    } catch (TierError const&) {
      failure = failure ? failure : std::current_exception();
    }
  };
  auto const lanes = static_cast<std::uint32_t>(context.geometry().lanes);
  for (std::uint32_t i = 0; i < lanes; ++i) {  // the model's weights drove them out of the cache
    auto const* const lane = reinterpret_cast<std::byte const*>(context.memory.lane(index, i).lane);
    for (std::size_t at = 0; at < offsetof(Lane<C>, demand); at += 64) {
      kvfreeze::detail::prefetch(lane + at);
    }
  }
  note_lane_entropy(context, index);
  if constexpr (C::needs_layer_parts) {
    if (sequence.share == unlimited) {  // with a cap the plan does it
      LaneFacts facts = lane_facts(lane_job(context, index, 0));
      facts.layer_part = 1.0F;
      note_layer_parts(context, index, context.scheduler.budget(facts));
    }
  }
  auto const period =
      static_cast<std::uint32_t>(std::max(kvfreeze::detail::slow_period(context.scheduler), 1));
  if (sequence.step % period == 0) {
    for (std::uint32_t i = 0; i < lanes; ++i) {
      guarded([&] { retain_lane(lane_job(context, index, i)); });
    }
  }
  if constexpr (C::has_levels) {
    bool refused = false;
    for (std::uint32_t i = 0; i < lanes; ++i) {
      refused = refused || context.memory.lane(index, i).lane->refused;
    }
    if (refused) {
      failure = context.memory.take_failure();
      if (!failure) {  // another sequence's advance() told it already
        failure = std::make_exception_ptr(TierError("the tier refused rows; they stayed exact"));
      }
    }
  }
  sequence.length += tokens;
  guarded([&] {
    plan_bytes(context, index, [&](LaneJob<C> const& job, int allowed) {
      // Not a second time where detections are counted, nor where recall has met the cap.
      if (!C::sleeps && !(kvfreeze::detail::base_level(context.scheduler) > 0.0F)) {
        yield_by_score(job, allowed);
      }
    });
  });
  sum_lanes(context, index, report, signals);
  plan_transfers(context, index);
  context.memory.shrink_tiles(index, sequence.length);
  release_blocks(context, index);
  if (tokens == 1) {
    context.memory.release_prefill();
  }

  signals.step = report.step = sequence.step + 1;
  signals.length = sequence.length;
  report.recovery = sequence.trigger.observe(signals);
  recover(context, index, report.recovery, kvfreeze::detail::window_steps(sequence.trigger));
  if constexpr (C::rewalks) {
    auto const rewind =
        static_cast<std::uint32_t>(kvfreeze::detail::rewind_tokens(sequence.trigger));
    if (report.recovery == Recovery::rewalk) {
      int const length = rewalk_length(sequence, static_cast<int>(rewind));
      guarded([&] {
        report.rewind_to = length;
        rewalk(context, index, length);
      });
    } else if (sequence.step % std::max(rewind, 1U) == 0) {
      save_checkpoint(context, index);
    }
  }
  sequence.step += 1;
  report.length = sequence.length;
  for (std::uint32_t i = 0; i < lanes; ++i) {
    report.rows = report.rows + lane_counts(context.memory.lane(index, i));
  }
  report.ledger = count_bytes(context);
  report.full_bytes = context.geometry().full_bytes(sequence.length);
  if (failure) {
    std::rethrow_exception(failure);
  }
  return report;
}

}  // namespace kvfreeze::host
