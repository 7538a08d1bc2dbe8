#pragma once

#include <kvfreeze/host/recall.hpp>

#include <algorithm>
#include <functional>
#include <limits>

namespace kvfreeze::host {

/// Evidence of an exact granule as its record keeps it.
template <class C>
RowEvidence recorded_evidence(LaneJob<C> const& job, std::uint32_t slot,
                              std::uint32_t granule) noexcept {
  RowEvidence row;
  row.position = static_cast<std::int32_t>(granule) * C::page;
  row.age = job.ref.lane->rows - 1 - row.position;
  row.step = job.step();
  float const value = to_float(BFloat16{job.ref.record(slot).value});
  row.mass = C::needs_mass ? value : 0.0F;
  row.mean_abs_dot = C::needs_queries ? value : 0.0F;
  row.key_norm = C::Scorer::evidence == Evidence::key ? value : 0.0F;
  return row;
}

/// @brief Marks the exact open granules that the scheduler retains: `flags[g] & Pick::wanted`.
/// `Pick::candidate` marks all exact open ones. @return candidates
template <class C>
int mark_retained(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  LaneFacts const facts = lane_facts(job);
  std::uint8_t* const flags = scratch.flags();
  auto const open = ref.open_range();
  std::fill_n(flags, facts.granules, std::uint8_t{0});
  Selection const selection =
      among_open(job.context->scheduler.retain(facts), facts.protected_granules);
  bool const by_score =
      selection.kind == Selection::Kind::above || selection.kind == Selection::Kind::quantile ||
      selection.kind == Selection::Kind::mass || selection.kind == Selection::Kind::count;
  auto const now = static_cast<std::uint16_t>(job.step());
  ScoreHistogram histogram;
  int candidates = 0;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if (!ref.is_open(granule, open)) {
      return;
    }
    candidates += 1;
    bool keep = selection.kind == Selection::Kind::all;
    if (selection.kind == Selection::Kind::recent) {
      keep = static_cast<std::uint16_t>(now - ref.record(slot).stamp) <
             static_cast<std::uint32_t>(std::max(selection.count, 0));
    }
    flags[granule] = static_cast<std::uint8_t>(Pick::candidate | (keep ? Pick::wanted : 0));
    if (by_score) {
      float const score =
          job.context->scorer.score(ref.score(granule), recorded_evidence(job, slot, granule));
      scratch.scores()[granule] = score;
      histogram.add(score);
    }
  });
  if (by_score) {
    mark_wanted(selection, histogram, scratch.scores(), flags, facts.granules, Pick::candidate,
                Pick::wanted);
  }
  return candidates;
}

/// @brief The slow clock of one lane: detections are counted, low granules freeze.
///
/// Dirty granules are stored while the transfer budget lasts, oldest first; the rest waits.
/// @throws TierError whatever the tier throws; the lane stays consistent
template <class C>
void retain_lane(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  if (mark_retained(job) == 0) {
    return;
  }
  Scratch& scratch = *job.scratch;
  std::uint8_t* const flags = scratch.flags();
  std::uint32_t* const slots = scratch.slots();
  constexpr bool timed = kvfreeze::detail::is_timed<typename C::Scheduler>();
  std::uint32_t const step = job.step();
  int count = 0;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if ((flags[granule] & Pick::candidate) == 0) {
      return;
    }
    bool const low = (flags[granule] & Pick::wanted) == 0;
    int const sleep = detect(ref, job.context->scheduler, granule, low, step);
    if (!low || (timed && sleep == 0)) {
      return;
    }
    if constexpr (C::sleeps) {
      ref.timer(granule).wake = step + 1U + static_cast<std::uint32_t>(sleep);
    }
    slots[count++] = slot;
  });
  if constexpr (!C::in_place && !C::discards) {
    if (ref.lane->transfer_left != unlimited) {
      auto left = ref.lane->transfer_left / job.geometry().granule_bytes();
      std::sort(slots, slots + count, [&](std::uint32_t a, std::uint32_t b) {
        return ref.record(a).granule < ref.record(b).granule;
      });
      int kept = 0;
      for (int i = 0; i < count; ++i) {
        bool const clean = (ref.state(ref.record(slots[i]).granule) & GranuleState::clean) != 0;
        if (clean || left > 0) {
          left -= clean ? 0 : 1;
          slots[kept++] = slots[i];
        }
      }
      count = kept;
    }
  }
  std::sort(slots, slots + count, std::greater<>());
  freeze_slots(ref, job.context->tier, scratch, slots, count, step, [&](std::uint32_t granule) {
    if constexpr (C::sleeps) {
      // Absent for `sleep` whole steps; without a sleep the next recall looks at it.
      std::uint32_t const wake = ref.timer(granule).wake;
      if (wake > step + 1U) {
        fall_asleep(ref, granule, wake);
      }
    }
  });
}

}  // namespace kvfreeze::host
