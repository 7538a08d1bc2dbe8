#pragma once

#include <kvfreeze/host/make_room.hpp>
#include <kvfreeze/host/mark.hpp>
#include <kvfreeze/host/timers.hpp>

#include <algorithm>
#include <bit>
#include <limits>

namespace kvfreeze::host {

/// Upper half of a non-negative float: what a slot record keeps of its last evidence.
inline std::uint16_t coarse(float value) noexcept {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

/// Evidence of one granule, as far as recall knows it.
template <class C>
RowEvidence recall_evidence(LaneJob<C> const& job, std::uint32_t granule) noexcept {
  RowEvidence row;
  row.position = static_cast<std::int32_t>(granule) * C::page;
  row.age = job.ref.lane->rows - 1 - row.position;
  row.step = job.step();
  if constexpr (C::has_digest && C::needs_mass) {
    row.mass = static_cast<float>(job.scratch->masses()[granule]) * mass_unit;
  }
  return row;
}

/// @brief Notes on each exact granule that this step wants it, and its mass.
/// @param keep_from score from which an exact granule is wanted in any case
template <class C>
void stamp_wanted(LaneJob<C> const& job, std::uint32_t keep_from) noexcept {
  LaneRef<C> const& ref = job.ref;
  auto const stamp = static_cast<std::uint16_t>(job.step());
  std::uint8_t const* const wanted = job.scratch->wanted();
  std::uint32_t const* const scores = recall_scores(job);
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    SlotRecord& record = ref.record(slot);
    if (wanted[granule] != 0 || scores[granule] >= keep_from) {
      record.stamp = stamp;
    }
    if constexpr (C::needs_mass) {
      record.value = coarse(recall_score(job, granule));
    }
  });
}

/// @brief Thaws what is wanted as far as the budgets go. @return granules thawed
/// @throws TierError whatever the tier throws
template <class C>
int thaw_wanted(LaneJob<C> const& job, LaneFacts const& facts) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Scratch& scratch = *job.scratch;
  int const affordable =
      lane.transfer_left == unlimited || C::in_place
          ? std::numeric_limits<int>::max()
          : static_cast<int>(lane.transfer_left / job.geometry().granule_bytes());
  int count = list_thaws(job, facts.granules, affordable);
  if (lane.exact + count > facts.allowed) {
    make_room(job, lane.exact + count - facts.allowed, Victims::unwanted);
    int const fits = std::max(facts.allowed - lane.exact, 0);
    lane.deferred += static_cast<std::uint32_t>(std::max(count - fits, 0));
    count = std::min(count, fits);
  }
  int const first = lane.slots;
  thaw_granules(job.context->memory, ref, job.context->tier, scratch, scratch.list(), count,
                job.step());
  auto const slot_at = [&](int i) {
    return C::in_place ? scratch.list()[i] : static_cast<std::uint32_t>(first + i);
  };
  rebuild_sums(job, count, slot_at);
  if constexpr (C::needs_mass && C::has_digest) {
    for (int i = 0; i < count; ++i) {
      ref.record(slot_at(i)).value = coarse(recall_score(job, scratch.list()[i]));
    }
  }
  return count;
}

/// @brief Sums the mass that attention will not see.
template <class C>
void note_missed(LaneJob<C> const& job) noexcept {
  if constexpr (C::has_digest) {
    std::uint8_t const* const states = load_states(job);
    std::uint32_t const* const masses = job.scratch->masses();
    constexpr auto frozen = static_cast<std::uint8_t>(Fidelity::frozen);
    int const granules = job.ref.granules();
    std::uint64_t missed = 0;
    for (int i = 0; i < granules; ++i) {
      missed += (states[i] & GranuleState::fidelity_mask) == frozen ? masses[i] : 0U;
    }
    job.lane().missed = static_cast<float>(missed) * mass_unit;
  }
}

/// @brief Frozen granules that were asked and not wanted: another detection, another sleep.
/// @param unwanted unwanted(granule)
template <class C, class Unwanted>
void sleep_where(LaneJob<C> const& job, Unwanted&& unwanted) noexcept {
  if constexpr (C::sleeps) {
    LaneRef<C> const& ref = job.ref;
    auto const open = ref.open_range();
    for (int i = open.low; i < open.high; ++i) {
      auto const granule = static_cast<std::uint32_t>(i);
      constexpr std::uint8_t held =
          GranuleState::pinned | GranuleState::forced | GranuleState::fidelity_mask;
      if ((ref.state(granule) & held) != static_cast<std::uint8_t>(Fidelity::frozen) ||
          !unwanted(i)) {
        continue;
      }
      int const sleep = detect(ref, job.context->scheduler, granule, true, job.step());
      if (sleep > 0) {
        fall_asleep(ref, granule, job.step() + static_cast<std::uint32_t>(sleep));
      }
    }
  }
}

/// @brief Before attention: what does the current query need, and is it here?
///
/// Wakes what is due, estimates every awake row, thaws what is wanted within the transfer budget
/// and the cap, and notes the mass that stays missing.
/// @param q the lane's queries, [lane_queries][head_dim]
/// @throws TierError whatever the tier throws; the call may be repeated
template <class C>
void recall_lane(LaneJob<C> const& job, float const* q) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  load_queries(job, q);
  if (lane.ready == lane.rows) {
    return;  // a repeated call of the same step
  }
  note_cosine(job);
  wake_due(ref, job.step());
  bool const absent = ref.granules() - lane.exact > lane.evicted;
  LaneFacts const facts = lane_facts(job);
  // With nothing frozen a scan serves a scorer's memory, and tells what may freeze.
  auto const open = ref.open_range();
  bool const idle =
      open.low == open.high || job.context->scheduler.recall(facts).kind == Selection::Kind::all;
  if (!absent && (!C::has_digest || (!C::has_state && idle))) {
    lane.ready = lane.rows;
    return;
  }
  if constexpr (C::has_digest) {
    estimate_logits(job);
    estimate_scores(job);
  }
  load_states(job);
  std::uint32_t const keep_from = mark_for_recall(job, facts);
  if constexpr (C::has_digest) {
    stamp_wanted(job, keep_from);
  }
  if (absent) {
    thaw_wanted(job, facts);
    note_missed(job);
    sleep_where(job, [&](int i) { return job.scratch->wanted()[i] == 0; });
  }
  if constexpr (C::scores_in_slots && C::needs_mass && C::has_digest) {
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      job.context->scorer.update(ref.score(granule, slot), recall_evidence(job, granule));
    });
  } else if constexpr (C::has_state && C::needs_mass && C::has_digest) {
    for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(facts.granules);
         ++granule) {
      Fidelity const f = ref.fidelity(granule);
      if (f == Fidelity::exact || f == Fidelity::frozen) {
        job.context->scorer.update(ref.score(granule, no_slot), recall_evidence(job, granule));
      }
    }
  }
  lane.ready = lane.rows;
}

}  // namespace kvfreeze::host
