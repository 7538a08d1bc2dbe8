#pragma once

/// @file
/// @brief The ladder's step of one lane, from the query to the output.

#include <kvfreeze/host/ladder_attend.hpp>
#include <kvfreeze/host/ladder_sink.hpp>
#include <kvfreeze/host/uniform_step.hpp>

#include <algorithm>
#include <limits>
#include <span>

namespace kvfreeze::host {

/// @brief Where the budget does not hold a step's risers: what is not needed makes way, then the
/// cuts rise until the budget holds what they ask for. Rows are where they were not: they are
/// ranked again.
/// @param everything is wanted: no cut may rise
template <class C>
void make_way(LaneJob<C> const& job, LadderStep<C>& step, LaneFacts const& facts, bool everything) {
  LadderCuts<C> const cuts = step.cuts;
  sink_guarded(job, step, 1);
  step = rank_rows(job, facts, everything);
  step.cuts = cuts;
  if (!everything && job.lane().budget < job.lane().aim) {
    fit_cuts(job, step, facts, job.lane().budget);
  }
}

/// @brief Recall and attention of one token on the ladder.
///
/// Ranks all rows, lets rise what the query needs, attends to exact and compact rows in one pass
/// (rows that rise in this step exactly), and now and then lets sink what was not needed.
/// @param q the lane's queries, [lane_queries][head_dim]
/// @param out [lane_queries][head_dim], or null: recall only, for an attention of the engine's own
/// @throws TierError if a needed row cannot be loaded; the call may be repeated
template <class C>
void step_ladder(LaneJob<C> const& job, float const* q, float* out) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  auto const& scheduler = job.context->scheduler;
  load_queries(job, q);
  if (lane.ready == lane.rows && out == nullptr) {
    return;  // a repeated recall of the same step
  }
  note_cosine(job);
  wake_due(ref, job.step());
  LaneFacts facts = lane_facts(job);
  bool everything = scheduler.recall(facts).kind == Selection::Kind::all;
  auto const open = ref.open_range();
  if (everything && open.low < open.high && lane.rows >= lane.next_look) {
    look_at_cost(job, facts);
    facts = lane_facts(job);
    everything = scheduler.recall(facts).kind == Selection::Kind::all;
  }
  if (lane.exact == ref.granules() && (everything || open.low >= open.high)) {
    if (out != nullptr) {
      attend_lane(job, out);
    }
    lane.ready = lane.rows;
    return;
  }
  if (everything) {
    wake_where(ref, [](std::uint32_t, Timer const&) { return true; });
  }
  int const dim = g.shape.head_dim;
  LadderStep<C> step = rank_rows(job, facts, everything);
  bool visit = sinks_now(*job.context, ref.sequence, ref.index);
  bool const capped = lane.budget != unlimited;
  // Where nothing rises again, nothing sinks before it has to.
  visit = visit && (C::rises || !capped);
  if (capped && !everything) {
    if (visit) {
      note_ladder_demand(job, step.runs, facts);
    }
    fit_cuts(job, step, facts, lane.aim);
  }
  stamp_needed(job, step);
  int listed = list_risers(job, step);
  int risers = limit_risers(job, step, listed);
  if (capped && !holds_risers(job, risers)) {
    make_way(job, step, facts, everything);
    listed = list_risers(job, step);
    risers = fit_risers(job, step, limit_risers(job, step, listed));
    visit = false;
  }
  leave_pools(job, step, risers, listed);
  std::uint64_t missed = sum_below(std::span<LogitRun const>(step.runs.run.data(), 1),
                                   std::numeric_limits<Mass>::max());
  for (int i = 0; i < risers; ++i) {
    std::uint32_t const granule = scratch.slots()[i];
    missed -= std::min<std::uint64_t>(missed, step.runs.run[0].masses[granule]);
  }
  lane.missed = static_cast<float>(missed) * mass_unit;
  take_out_risers(job, step, risers);

  bool const all_here = lane.exact == ref.granules();
  if (out != nullptr && all_here) {
    attend_lane(job, out);  // bit for bit what a cache without a ladder computes
  }
  for (int head = 0; out != nullptr && !all_here && head < g.heads_per_lane; ++head) {
    attend_ranked(job, step, head_state(job, head), head);
  }
  raise(job, risers, [&](std::byte const* rows, int count) {
    for (int head = 0; out != nullptr && head < g.heads_per_lane; ++head) {
      attend_loaded(job, rows, count, head_state(job, head), head);
    }
  });
  if (out != nullptr && !all_here) {
    // Rows of single granules lie as they did, those that rose behind them. Larger granules are
    // listed anew, which may put a lane that is complete now in order.
    RowList list{nullptr, lane.slots};
    if constexpr (C::page > 1) {
      list = list_rows(job, false);
    }
    for (int head = 0; head < g.heads_per_lane; ++head) {
      std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group * dim;
      OnlineSoftmax const state = head_state(job, head);
      attend_from(ref.row_blocks(head), list.slots, C::page > 1 ? 0 : step.known_exact, list.count,
                  scratch.query() + first, state);
      state.finish(out + first, nullptr);
    }
    count_attended(job);
  }
  int const asked = step.runs.run[0].rows;
  sleep_where(job, [&](int i) { return i < asked && step.runs.masses(0)[i] < step.cuts.least[0]; });
  // Over its aim the lane keeps nothing that it does not need.
  bool const above = capped && LadderSize<C>::of(ref).bytes(g) > ladder_room(ref, lane.aim);
  // Not where larger granules have just become complete: they may have been put in order.
  bool const known = C::page == 1 || all_here || lane.exact < ref.granules();
  if ((visit || above) && known && !everything) {
    sink_guarded(job, step, above ? 1 : scheduler.retain(facts).count);
  }
  lane.ready = lane.rows;
}

/// @brief After a chunk: what its last queries did not need sinks at once.
/// @param query query(i): the lane's queries of the chunk's i-th token
template <class C, class Query>
void settle_chunk(LaneJob<C> const& job, int tokens, Query&& query) {
  LaneRef<C> const& ref = job.ref;
  if constexpr (C::uniform) {
    code_all(job);
  } else {
    LaneFacts facts = lane_facts(job);
    auto const open = ref.open_range();
    if (open.low >= open.high) {
      return;
    }
    load_queries(job, query(tokens - 1));
    look_at_cost(job, facts);
    facts = lane_facts(job);
    if (job.context->scheduler.recall(facts).kind == Selection::Kind::all) {
      return;
    }
    auto const before = static_cast<std::uint16_t>(job.step() - 1U);
    for (std::uint32_t slot = 0; slot < static_cast<std::uint32_t>(ref.lane->slots); ++slot) {
      ref.record(slot).stamp = before;
    }
    for (int i = std::max(tokens - votes, 0); i < tokens; ++i) {
      load_queries(job, query(i));
      LadderStep<C> step = rank_rows(job, facts, false);
      if (ref.lane->budget != unlimited) {
        note_ladder_demand(job, step.runs, facts);
        fit_cuts(job, step, facts, job.lane().aim);
      }
      stamp_needed(job, step);
      if (i + 1 == tokens) {
        sink_guarded(job, step, 1);
      }
    }
  }
}

}  // namespace kvfreeze::host
