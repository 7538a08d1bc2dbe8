#pragma once

/// @file
/// @brief Rows that stand above their level: who they are, which of them the budgets hold, how they
/// come.

#include <kvfreeze/host/ladder_cuts.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <tuple>

namespace kvfreeze::host {

/// @brief A slot's granule freezes; what is known of the others stays in step with their slots,
/// which are the first of the pool: behind them lie those that rose in this step.
template <class C>
void drop_known(LaneJob<C> const& job, LadderStep<C>& step, std::size_t level,
                std::uint32_t slot) noexcept {
  LaneRef<C> const& ref = job.ref;
  LogitRun const& run = step.runs.run[LadderRuns<C>::pools + level];
  auto const last = static_cast<std::uint32_t>(--step.known[level]);
  if (slot != last) {
    run.masses[slot] = run.masses[last];
    for (int h = 0; h < job.geometry().lane_queries; ++h) {
      float* const weights = run.logits + h * run.stride;
      std::copy_n(weights + static_cast<std::ptrdiff_t>(last) * C::page, C::page,
                  weights + static_cast<std::ptrdiff_t>(slot) * C::page);
    }
  }
  drop_code(ref, level, slot, job.step(), static_cast<int>(last) + 1);
}

/// A pool's slot and its level in one number: slots are fewer than max_tokens' limit.
inline constexpr int place_bits = 24;

/// Must a granule in this state rise, whatever it weighs?
constexpr bool must_rise(std::uint8_t state) noexcept {
  return (state & (GranuleState::forced | GranuleState::pinned)) != 0;
}

/// @brief Lists the granules that rise before this attention, frozen ones first, into `slots()`;
/// their levels into `flags()`; where in a pool they are into `list()`, by granule.
/// @return how many
template <class C>
int list_risers(LaneJob<C> const& job, LadderStep<C> const& step) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  std::uint32_t* const list = scratch.slots();
  std::uint8_t* const levels = scratch.flags();
  std::uint8_t const* const states = scratch.states();
  std::uint32_t* const places = scratch.list();
  LogitRun const& digests = step.runs.run[0];
  Mass const cut = std::max(step.cuts.least[0], 1U);
  int count = C::rises ? list_at_least(digests.masses, states, digests.rows, cut, list) : 0;
  for (int i = 0; i < count; ++i) {
    levels[list[i]] = static_cast<std::uint8_t>(step.cuts.level(digests.masses[list[i]]));
  }
  bool const pins = !job.sequence->pins.empty();
  if (ref.lane->forced > 0 || pins || step.cuts.least[0] == 0) {
    constexpr auto frozen = static_cast<std::uint8_t>(Fidelity::frozen);
    count = 0;
    for (int i = 0; i < ref.granules(); ++i) {
      if ((states[i] & GranuleState::fidelity_mask) != frozen) {
        continue;
      }
      bool const forced = must_rise(states[i]);
      int const level = forced      ? exact_level<C>
                        : !C::rises ? 0
                                    : step.cuts.level(digests.masses[i]);
      levels[i] = static_cast<std::uint8_t>(level);
      list[count] = static_cast<std::uint32_t>(i);
      count += level > 0 ? 1 : 0;
    }
  }
  std::uint32_t* const slots = scratch.scores();
  for (std::size_t level = 0; level < C::levels; ++level) {
    LogitRun const& run = step.runs.run[LadderRuns<C>::pools + level];
    int const here = static_cast<int>(level) + 1;
    int risers = 0;
    if (pins) {
      for (int i = 0; i < run.rows; ++i) {
        std::uint32_t const granule = ref.code_granule(level, static_cast<std::uint32_t>(i));
        slots[risers] = static_cast<std::uint32_t>(i);
        risers += (C::rises && step.cuts.level(run.masses[i]) > here) ||
                          (ref.state(granule) & GranuleState::pinned) != 0
                      ? 1
                      : 0;
      }
    } else if constexpr (C::rises) {
      risers = list_at_least(run.masses, nullptr, run.rows, step.cuts.least[level + 1], slots);
    }
    while (risers-- > 0) {
      std::uint32_t const slot = slots[risers];
      std::uint32_t const granule = ref.code_granule(level, slot);
      int const to = (ref.state(granule) & GranuleState::pinned) != 0
                         ? exact_level<C>
                         : step.cuts.level(run.masses[slot]);
      levels[granule] = static_cast<std::uint8_t>(to);
      list[count++] = granule;
      digests.masses[granule] = run.masses[slot];  // for the order of what must wait
      places[granule] = static_cast<std::uint32_t>(level) << place_bits | slot;
    }
  }
  return count;
}

/// Was the granule compact when the rows were ranked?
template <class C>
bool was_compact(LaneJob<C> const& job, std::uint32_t granule) noexcept {
  return GranuleState::fidelity(job.scratch->states()[granule]) == Fidelity::compact;
}

/// @brief Takes the risers that come from a pool out of it: frozen for the moment, the tier has
/// them. Those of a pool that must wait keep their place there.
/// @param listed what list_risers() found, of which the first `count` rise
template <class C>
void leave_pools(LaneJob<C> const& job, LadderStep<C>& step, int count, int listed) noexcept {
  std::uint32_t const* const list = job.scratch->slots();
  std::uint32_t const* const places = job.scratch->list();
  std::uint32_t* const leaving = job.scratch->scores();
  int n = 0;
  for (int i = 0; i < count; ++i) {
    if (was_compact(job, list[i])) {
      leaving[n++] = places[list[i]];
    }
  }
  for (int i = count; i < listed; ++i) {
    if (was_compact(job, list[i])) {
      step.runs.masses(0)[list[i]] = 0;  // it is attended where it is
    }
  }
  // The last slots first: a slot that becomes free takes the last one of its pool.
  std::sort(leaving, leaving + n, std::greater<>());
  for (int i = 0; i < n; ++i) {
    drop_known(job, step, leaving[i] >> place_bits, leaving[i] & ((1U << place_bits) - 1U));
  }
}

/// @brief Sorts the first `count` of `slots()`: by class(granule), ascending, then by mass, the
/// heaviest first.
template <class C, class Class>
void sort_risers(LaneJob<C> const& job, LadderStep<C> const& step, int count,
                 Class const& class_of) noexcept {
  Mass const* const masses = step.runs.masses(0);
  auto const rank = [&](std::uint32_t granule) {
    return std::tuple(class_of(granule), ~masses[granule], granule);
  };
  std::uint32_t* const list = job.scratch->slots();
  std::sort(list, list + count,
            [&](std::uint32_t a, std::uint32_t b) { return rank(a) < rank(b); });
}

/// @brief Keeps the risers that the transfer budget pays for at the front of `slots()`: forced and
/// pinned ones, then those carried over, then frozen ones by mass, then those of the pools. The
/// others are carried over.
template <class C>
int limit_risers(LaneJob<C> const& job, LadderStep<C> const& step, int count) noexcept {
  LaneRef<C> const& ref = job.ref;
  std::uint32_t* const list = job.scratch->slots();
  std::size_t const affordable = affordable_granules(ref);
  if (static_cast<std::size_t>(count) <= affordable) {
    return count;
  }
  sort_risers(job, step, count, [&](std::uint32_t granule) {
    std::uint8_t const state = ref.state(granule);
    return must_rise(state)                       ? 0
           : (state & GranuleState::carried) != 0 ? 1
           : !was_compact(job, granule)           ? 2
                                                  : 3;
  });
  auto const kept = static_cast<int>(affordable);
  for (int i = kept; i < count; ++i) {
    ref.state(list[i]) |= GranuleState::carried;
  }
  ref.lane->deferred += static_cast<std::uint32_t>(count - kept);
  return kept;
}

/// Does the lane's budget hold what it has and `risers` more?
template <class C>
bool holds_risers(LaneJob<C> const& job, int risers) noexcept {
  auto size = LadderSize<C>::of(job.ref);
  for (int i = 0; i < risers; ++i) {
    std::uint32_t const granule = job.scratch->slots()[i];
    size.add(job.scratch->flags()[granule], 1);
    if (was_compact(job, granule)) {
      size.compact[job.scratch->list()[granule] >> place_bits] -= 1;
    }
  }
  return size.bytes(job.geometry()) <= ladder_room(job.ref, job.lane().budget);
}

/// Drops risers until the budget holds the others: first those with the least mass, last of all
/// those that must come.
template <class C>
int fit_risers(LaneJob<C> const& job, LadderStep<C> const& step, int risers) noexcept {
  int const wanted = risers;
  if (!holds_risers(job, risers)) {
    sort_risers(job, step, risers,
                [&](std::uint32_t granule) { return !must_rise(job.ref.state(granule)); });
  }
  while (risers > 0 && !holds_risers(job, risers)) {
    risers -= std::max(1, risers / 8);
  }
  for (int i = risers; i < wanted; ++i) {
    job.ref.state(job.scratch->slots()[i]) |= GranuleState::carried;
  }
  job.lane().deferred += static_cast<std::uint32_t>(wanted - risers);
  return risers;
}

/// Rows that rise are attended as they come: their estimated weights do not count.
template <class C>
void take_out_risers(LaneJob<C> const& job, LadderStep<C>& step, int risers) noexcept {
  LogitRun const& run = step.runs.run[0];
  int const heads = job.geometry().lane_queries;
  for (int i = 0; i < risers; ++i) {
    std::uint32_t const granule = job.scratch->slots()[i];
    if (was_compact(job, granule)) {
      continue;  // its weight went with its slot
    }
    for (int h = 0; h < heads; ++h) {
      auto const* const weights =
          reinterpret_cast<std::int32_t const*>(run.logits + h * run.stride);
      for (std::uint32_t row = granule * C::page; row < (granule + 1) * C::page; ++row) {
        step.absent[h] -= static_cast<float>(weights[row]);
      }
    }
  }
  for (int h = 0; h < heads; ++h) {  // rounding may leave less than nothing
    step.absent[h] = std::max(step.absent[h], 0.0F);
  }
}

/// @brief The risers come: loaded, placed at their levels.
/// @param seen as in raise_compact
template <class C, class Seen>
void raise(LaneJob<C> const& job, int count, Seen&& seen) {
  Scratch& scratch = *job.scratch;
  std::uint32_t const* const list = scratch.slots();
  std::uint8_t const* const levels = scratch.flags();
  std::uint32_t* const batch = scratch.scores();
  auto size = LadderSize<C>::of(job.ref);
  for (int i = 0; i < count; ++i) {
    size.add(levels[list[i]], 1);
  }
  expect(job.context->memory, job.ref, size);
  for (int level = 1; level <= exact_level<C>; ++level) {
    int n = 0;
    for (int i = 0; i < count; ++i) {
      batch[n] = list[i];
      n += levels[list[i]] == level ? 1 : 0;
    }
    if (n == 0) {
      continue;
    }
    if (level == exact_level<C>) {
      thaw_granules(job.context->memory, job.ref, job.context->tier, scratch, batch, n, job.step());
    } else {
      raise_compact(job, batch, n, level, seen);
    }
  }
}

}  // namespace kvfreeze::host
