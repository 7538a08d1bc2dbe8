#pragma once

#include <kvfreeze/host/choose.hpp>
#include <kvfreeze/host/recall.hpp>
#include <kvfreeze/host/scores.hpp>

#include <algorithm>
#include <functional>
#include <limits>

namespace kvfreeze::host {

/// Flags of a granule while the scheduler's selection is carried out.
struct Pick {
  static constexpr std::uint8_t candidate = 1;
  static constexpr std::uint8_t wanted = 2;
};

/// @brief Lists the slots of the exact open granules that were not wanted within `steps` steps.
template <class C>
int list_stale(LaneJob<C> const& job, int steps, std::uint32_t* slots) noexcept {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  auto const now = static_cast<std::uint16_t>(job.step());
  auto const limit = static_cast<std::uint32_t>(std::max(steps, 0));
  bool const pins = !job.sequence->pins.empty();
  int count = 0;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    auto const age = static_cast<std::uint16_t>(now - ref.record(slot).stamp);
    auto const at = static_cast<int>(granule);
    bool const stale = age >= limit && at >= open.low && at < open.high;
    slots[count] = slot;
    count += stale && (!pins || ref.is_open(granule, open)) ? 1 : 0;
  });
  return count;
}

/// @brief Marks the exact open granules and those that the scheduler retains, by score or
/// wholesale. On return `flags()[g]` has `Pick` bits.
template <class C>
void mark_retained(LaneJob<C> const& job, Selection selection, int granules) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  std::uint8_t* const flags = scratch.flags();
  float* const scores = scratch.float_scores();
  auto const open = ref.open_range();
  std::fill_n(flags, granules, std::uint8_t{0});
  bool const by_score =
      selection.kind != Selection::Kind::all && selection.kind != Selection::Kind::none;
  std::uint8_t const initial =
      selection.kind == Selection::Kind::all ? Pick::candidate | Pick::wanted : Pick::candidate;
  ScoreHistogram histogram;
  if (by_score) {
    score_open(job, [&](std::uint32_t granule, float score) {
      flags[granule] = initial;
      scores[granule] = score;
      histogram.add(score);
    });
  } else {
    ref.for_each_exact([&](std::uint32_t, std::uint32_t granule) {
      flags[granule] = ref.is_open(granule, open) ? initial : std::uint8_t{0};
    });
  }
  if (by_score) {
    mark_wanted(selection, histogram, scores, flags, granules, Pick::candidate, Pick::wanted);
  }
}

/// @brief Counts a detection or its absence for each exact open granule; lists the slots of those
/// that should freeze, their wake steps in their timers.
template <class C>
int list_low(LaneJob<C> const& job, std::uint32_t* slots) noexcept {
  LaneRef<C> const& ref = job.ref;
  std::uint8_t const* const flags = job.scratch->flags();
  constexpr bool timed = kvfreeze::detail::is_timed<typename C::Scheduler>();
  int count = 0;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if ((flags[granule] & Pick::candidate) == 0) {
      return;
    }
    bool const low = (flags[granule] & Pick::wanted) == 0;
    int const sleep = detect(ref, job.context->scheduler, granule, low, job.step());
    if (!low || (timed && sleep == 0)) {
      return;
    }
    if constexpr (C::sleeps) {
      ref.timer(granule).wake = job.step() + 1U + static_cast<std::uint32_t>(sleep);
    }
    slots[count++] = slot;
  });
  return count;
}

/// @brief The slow clock of one lane: detections are counted, low granules freeze.
///
/// Dirty granules are stored while the transfer budget lasts, oldest first; the rest waits.
/// @param more granules that the byte cap is to leave room for beside those that stay
/// @throws TierError whatever the tier throws; the lane stays consistent
template <class C>
void retain_lane(LaneJob<C> const& job, int more = 0) {
  if constexpr (C::has_levels) {
    return;  // on the ladder rows sink on the fast clock, where their masses are at hand
  }
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  if (open.low == open.high) {
    return;
  }
  LaneFacts facts = lane_facts(job);
  facts.allowed -= more;
  Selection const selection =
      as_count(among_open(job.context->scheduler.retain(facts), facts.protected_granules),
               open.high - open.low);
  if (!C::sleeps && selection.kind == Selection::Kind::all) {
    return;
  }
  Scratch& scratch = *job.scratch;
  std::uint32_t* const slots = scratch.slots();
  std::uint32_t const step = job.step();
  int count = 0;
  if (!C::sleeps && selection.kind == Selection::Kind::recent) {
    count = list_stale(job, selection.count, slots);
  } else {
    if (selection.kind == Selection::Kind::recent) {
      mark_retained(job, Selection::all(), facts.granules);
      int const stale = list_stale(job, selection.count, slots);
      for (int i = 0; i < stale; ++i) {
        std::uint32_t const granule = C::in_place ? slots[i] : ref.record(slots[i]).granule;
        scratch.flags()[granule] &= static_cast<std::uint8_t>(~Pick::wanted);
      }
    } else {
      mark_retained(job, selection, facts.granules);
    }
    count = list_low(job, slots);
  }
  if (count == 0) {
    return;
  }
  if constexpr (!C::in_place && !C::discards) {
    if (ref.lane->transfer_left != unlimited) {
      std::sort(slots, slots + count, [&](std::uint32_t a, std::uint32_t b) {
        return ref.record(a).granule < ref.record(b).granule;
      });
      count = keep_affordable(ref, slots, count);
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

/// @brief A lane with no room for its next granule among `allowed` exact ones asks the scheduler
/// and the scorer who goes. The byte cap comes before the transfer budget.
/// @throws TierError whatever the tier throws; the lane stays consistent
template <class C>
void yield_by_score(LaneJob<C> const& job, int allowed) {
  Lane<C>& lane = job.lane();
  job.scratch->commit(lane.rows);
  lane.transfer_left = unlimited;
  retain_lane(job, allowed_granules(job.ref, lane.budget, lane.rows) - allowed + 1);
}

}  // namespace kvfreeze::host
