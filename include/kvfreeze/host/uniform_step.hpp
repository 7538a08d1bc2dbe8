#pragma once

/// @file
/// @brief The step of a uniformly quantised lane: nothing is ranked.

#include <kvfreeze/host/ladder_attend.hpp>

#include <algorithm>
#include <exception>
#include <functional>

namespace kvfreeze::host {

/// @brief Unprotected rows go to the first compact level, oldest first, as many as the budget holds
/// while they are both exact and coded.
/// @return are there others that it may hold now?
/// @throws TierError whatever the tier throws; granules not yet stored stay exact
template <class C>
bool code_some(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  std::uint32_t* const slots = job.scratch->list();
  int count = 0;
  for (std::uint32_t slot = 0; slot < static_cast<std::uint32_t>(ref.lane->slots); ++slot) {
    slots[count] = slot;
    count += ref.is_open(ref.record(slot).granule, open) ? 1 : 0;
  }
  std::sort(slots, slots + count, [&](std::uint32_t a, std::uint32_t b) {
    return ref.record(a).granule < ref.record(b).granule;
  });
  int const affordable = keep_affordable(ref, slots, count);
  int const coded = std::min(affordable, free_slots(ref, 0));
  bool const more = coded > 0 && coded < affordable;
  // What is not paid for, or does not fit, stays exact.
  ref.lane->deferred += more ? 0U : static_cast<std::uint32_t>(count - coded);
  for (int done = 0; done < coded; done += transfer_batch) {
    int const batch = std::min(coded - done, transfer_batch);
    store_dirty(ref, job.context->tier, *job.scratch, slots + done, batch);
    for (int i = done; i < done + batch; ++i) {
      ref.state(ref.record(slots[i]).granule) |= GranuleState::clean;
    }
  }
  job.context->memory.grow_codes(ref, 0, ref.lane->pools[0].slots + coded);
  for (int i = 0; i < coded; ++i) {
    std::uint32_t const slot = slots[i];
    push_code(job.context->memory, ref, 0, ref.record(slot).granule, ref.k(slot), ref.v(slot),
              job.step());
  }
  std::sort(slots, slots + coded, std::greater<>());
  for (int i = 0; i < coded; ++i) {
    release_slot(ref, slots[i]);
  }
  ref.lane->frozen += static_cast<std::uint32_t>(coded);
  return more;
}

/// @brief Every unprotected row goes to the first compact level, oldest first, so that the pool
/// keeps the order of positions and attention over it needs no list.
/// @throws TierError whatever the tier throws; granules not yet stored stay exact
template <class C>
void code_all(LaneJob<C> const& job) {
  while (code_some(job)) {
  }
}

/// @brief Rows of a uniformly quantised lane that a pin, a truncation or the cap left at the wrong
/// level come back: pinned ones exact, frozen ones through their codes.
/// @throws TierError whatever the tier throws
template <class C>
void return_rows(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  auto const is_pinned = [&](std::uint32_t granule) {
    return (ref.state(granule) & GranuleState::pinned) != 0;
  };
  if (!job.sequence->pins.empty()) {
    drop_codes_where(ref, job.step(), is_pinned);
  }
  if (lane.exact + ref.compact() == ref.granules()) {
    return;
  }
  std::uint32_t* const list = job.scratch->slots();
  for (bool const pinned : {true, false}) {
    int count = 0;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(ref.granules()); ++i) {
      list[count] = i;
      count += ref.fidelity(i) == Fidelity::frozen && is_pinned(i) == pinned ? 1 : 0;
    }
    auto const kept =
        static_cast<int>(std::min(affordable_granules(ref), static_cast<std::size_t>(count)));
    lane.deferred += static_cast<std::uint32_t>(count - kept);
    count = kept;
    if (pinned) {
      thaw_granules(job.context->memory, ref, job.context->tier, *job.scratch, list, count,
                    job.step());
    } else {
      raise_compact(job, list, count, 1, [](std::byte const*, int) {});
    }
  }
}

/// @brief One token of a uniformly quantised lane: nothing is ranked.
template <class C>
void step_uniform(LaneJob<C> const& job, float const* q, float* out) {
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  load_queries(job, q);
  if (lane.ready == lane.rows && out == nullptr) {
    return;
  }
  note_cosine(job);
  return_rows(job);
  try {
    code_all(job);
  } catch (TierError const&) {
    lane.refused = true;
    job.scratch->failure = std::current_exception();
  }
  if (out != nullptr) {
    load_states(job);
    place_sections(job);
    scan_digests(job);
    for (std::size_t level = 0; level < C::levels; ++level) {
      pool_logits(job, level);
    }
    LadderRuns<C> const runs = make_runs(job);
    for (int head = 0; head < g.heads_per_lane; ++head) {
      std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group * g.shape.head_dim;
      OnlineSoftmax const state = head_state(job, head);
      state.reset();
      attend(job.ref.row_blocks(head), runs.list.slots, runs.list.count,
             job.scratch->query() + first, state, nullptr, 0);
      attend_pools(job, runs, state, head);
      state.finish(out + first, nullptr);
    }
    count_attended(job);
  }
  lane.ready = lane.rows;
}

}  // namespace kvfreeze::host
