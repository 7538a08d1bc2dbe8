#pragma once

#include <kvfreeze/host/choose.hpp>
#include <kvfreeze/host/moments.hpp>
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
  auto const score = [&](std::uint32_t slot, std::uint32_t granule) {
    RowEvidence row = recorded_evidence(job, slot, granule);
    if constexpr (C::rates) {
      row.rating = rate_granule(job, slot, granule);
    }
    return job.context->scorer.score(ref.score(granule), row);
  };
  int const width = by_score ? kvfreeze::detail::pooled_rows(job.context->scorer) : 1;
  float* const alone = scratch.logits();  // nobody's at this hour
  if (width > 1) {
    std::fill_n(alone, open.high, 0.0F);
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      if (static_cast<int>(granule) < open.high) {
        alone[granule] = score(slot, granule);
      }
    });
  }
  ScoreHistogram histogram;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if (!ref.is_open(granule, open)) {
      return;
    }
    flags[granule] = initial;
    if (by_score) {
      scores[granule] =
          width > 1 ? kvfreeze::detail::pooled(alone, open.high, static_cast<int>(granule), width)
                    : score(slot, granule);
      histogram.add(scores[granule]);
    }
  });
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

}  // namespace kvfreeze::host
