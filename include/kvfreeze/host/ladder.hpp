#pragma once

/// @file
/// @brief The ladder's step of one lane: estimate, rise, attend, sink.

#include <kvfreeze/host/ladder_moves.hpp>
#include <kvfreeze/host/ladder_scan.hpp>
#include <kvfreeze/host/recall.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>

namespace kvfreeze::host {

/// Masses from which a row stands above level i: frozen, then the compact ones.
template <class C>
struct LadderCuts {
  std::array<Mass, static_cast<std::size_t>(C::levels) + 1> least{};

  /// Level of a row of that mass.
  [[nodiscard]] int level(Mass mass) const noexcept {
    int level = 0;
    for (Mass const cut : least) {
      level += mass >= cut ? 1 : 0;
    }
    return level;
  }

  /// Least mass at which a row of level `level` >= 1 is still needed there.
  [[nodiscard]] Mass needed(int level, float hold) const noexcept {
    auto const cut = static_cast<double>(least[static_cast<std::size_t>(level - 1)]);
    return static_cast<Mass>(std::min(cut * static_cast<double>(hold), 4294967295.0));
  }
};

/// One lane's step on the ladder.
template <class C>
struct LadderStep {
  LadderRuns<C> runs;
  LadderCuts<C> cuts;
  std::array<int, C::levels> known{};  ///< slots of each pool whose weights are known
  int known_exact = 0;                 ///< the same for exact slots
  /// Weights that are neither exact nor in a known slot any more, by head: rows that stay frozen,
  /// once those that rise are taken out.
  std::array<float, 512> absent{};
};

/// Takes the protected rows' masses out: they stay, whatever they weigh.
template <class C>
void protect_masses(LaneJob<C> const& job, LadderRuns<C> const& runs) noexcept {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  bool const pins = !job.sequence->pins.empty();
  Mass* const masses = runs.masses(LadderRuns<C>::exact);
  for (std::uint32_t slot = 0; slot < static_cast<std::uint32_t>(ref.lane->slots); ++slot) {
    auto const granule = static_cast<int>(ref.record(slot).granule);
    bool const free = granule >= open.low && granule < open.high &&
                      (!pins || ref.is_open(static_cast<std::uint32_t>(granule), open));
    masses[slot] = free ? masses[slot] : 0;
  }
}

/// @brief The cuts that the thresholds ask for.
///
/// The lowest comes from all rows; the others from those above it, of which there are few.
template <class C>
LadderCuts<C> find_cuts(LaneJob<C> const& job, LadderRuns<C> const& runs,
                        Rungs const& rungs) noexcept {
  Lane<C>& lane = job.lane();
  LadderCuts<C> cuts;
  Mass const frozen = to_mass(rungs.frozen);
  cuts.least[0] = mass_threshold(runs.all(), frozen, lane.least[0]);
  std::uint32_t* const rows = job.scratch->scores();
  LogHistogram alive;
  for (LogitRun const& run : runs.run) {
    int const count =
        list_at_least(run.masses, run.states, run.rows, std::max(cuts.least[0], 1U), rows);
    for (int i = 0; i < count; ++i) {
      rows[i] = run.masses[rows[i]];
    }
    alive.add(rows, nullptr, static_cast<std::size_t>(count));
  }
  std::uint64_t const below = sum_below(runs.all(), cuts.least[0]);
  for (std::size_t level = 0; level < C::levels; ++level) {
    std::uint64_t const epsilon = to_mass(std::max(rungs.compact[level], rungs.frozen));
    Mass cut = cuts.least[level];
    if (epsilon > below) {
      BinCutoff const cutoff = alive.all_but(static_cast<std::uint32_t>(epsilon - below));
      cut = std::max(cut, cutoff.bin < LogHistogram::bins ? log_bin_floor(cutoff.bin)
                                                          : std::numeric_limits<Mass>::max());
    }
    cuts.least[level + 1] = cut;
  }
  std::copy(cuts.least.begin(), cuts.least.end(), lane.least.begin());
  return cuts;
}

/// @brief Bytes of rows and codes that each water level asks for, into the lane's `demand`; what
/// is protected included.
template <class C>
void note_ladder_demand(LaneJob<C> const& job, LadderRuns<C> const& runs,
                        LaneFacts facts) noexcept {
  LogHistogram all;
  for (LogitRun const& run : runs.run) {
    if (run.states == nullptr) {
      all.add(run.masses, nullptr, static_cast<std::size_t>(run.rows));
      continue;
    }
    std::uint32_t* const rows = job.scratch->scores();
    int const count = list_at_least(run.masses, run.states, run.rows, 1, rows);
    for (int i = 0; i < count; ++i) {
      rows[i] = run.masses[rows[i]];
    }
    all.add(rows, nullptr, static_cast<std::size_t>(count));
  }
  auto const at_or_above = [&](float epsilon) {
    BinCutoff const cutoff = all.all_but(to_mass(epsilon));
    int count = 0;
    for (int bin = std::max(cutoff.bin, 1); bin < LogHistogram::bins; ++bin) {
      count += static_cast<int>(all.counts[bin]);
    }
    return count;
  };
  for (std::size_t i = 0; i < water_levels; ++i) {
    facts.water_level = job.context->levels[i];
    Rungs const rungs = job.context->scheduler.rungs(facts);
    LadderSize<C> size;
    int above = at_or_above(rungs.frozen);
    for (std::size_t level = 0; level < C::levels; ++level) {
      int const next = std::min(above, at_or_above(std::max(rungs.compact[level], rungs.frozen)));
      size.compact[level] = above - next;
      above = next;
    }
    size.exact = facts.protected_granules + above;
    job.lane().demand[i] =
        static_cast<std::uint32_t>(std::min<std::size_t>(size.bytes(job.geometry()), 0xFFFFFFFFU));
  }
}

/// What the lane would hold if the ladder had its way at once.
template <class C>
LadderSize<C> ladder_wish(LaneJob<C> const& job, LadderStep<C> const& step,
                          LaneFacts const& facts) noexcept {
  LadderSize<C> size;
  size.exact = facts.protected_granules;
  for (LogitRun const& run : step.runs.run) {
    for (int i = 0; i < run.rows; ++i) {
      if (run.masses[i] == 0 || (run.states != nullptr &&
                                 (run.states[i] & LogitRun::state_bits) != LogitRun::taking_part)) {
        continue;
      }
      int const level = step.cuts.level(run.masses[i]);
      if (level == exact_level<C>) {
        size.exact += 1;
      } else if (level > 0) {
        size.compact[static_cast<std::size_t>(level - 1)] += 1;
      }
    }
  }
  static_cast<void>(job);
  return size;
}

/// Notes on each slot that this step needs it at its level.
template <class C>
void stamp_needed(LaneJob<C> const& job, LadderStep<C> const& step) noexcept {
  LaneRef<C> const& ref = job.ref;
  float const hold = kvfreeze::detail::hysteresis(job.context->scheduler);
  auto const now = static_cast<std::uint16_t>(job.step());
  Mass const exact = step.cuts.needed(exact_level<C>, hold);
  Mass const* const masses = step.runs.masses(LadderRuns<C>::exact);
  for (int i = 0; i < ref.lane->slots; ++i) {
    SlotRecord& record = ref.record(static_cast<std::uint32_t>(i));
    record.stamp = masses[i] >= exact ? now : record.stamp;
    record.value = coarse(static_cast<float>(masses[i]) * mass_unit);
  }
  constexpr int block_slots = block_rows / C::page;
  for (std::size_t level = 0; level < C::levels; ++level) {
    Mass const least = step.cuts.needed(static_cast<int>(level) + 1, hold);
    Mass const* const codes = step.runs.masses(LadderRuns<C>::pools + level);
    int const slots = ref.lane->pools[level].slots;
    for (int first = 0; first < slots; first += block_slots) {
      std::uint16_t* const stamps = &ref.code_stamp(level, static_cast<std::uint32_t>(first));
      int const count = std::min(block_slots, slots - first);
      for (int i = 0; i < count; ++i) {
        stamps[i] = codes[first + i] >= least ? now : stamps[i];
      }
    }
  }
}

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
  std::uint32_t const granule = ref.code_granule(level, slot);
  auto& state = ref.state(granule);
  state = GranuleState::with(state, Fidelity::frozen);
  ref.note_change(granule, job.step());
  move_code(ref, level, last, slot);
  pop_code(ref, level, last);
}

/// A pool's slot and its level in one number: slots are fewer than max_tokens' limit.
inline constexpr int place_bits = 24;

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
  int count = list_at_least(digests.masses, states, digests.rows, cut, list);
  for (int i = 0; i < count; ++i) {
    levels[list[i]] = static_cast<std::uint8_t>(step.cuts.level(digests.masses[list[i]]));
  }
  constexpr std::uint8_t must = GranuleState::forced | GranuleState::pinned;
  bool const pins = !job.sequence->pins.empty();
  if (ref.lane->forced > 0 || pins || step.cuts.least[0] == 0) {
    constexpr auto frozen = static_cast<std::uint8_t>(Fidelity::frozen);
    count = 0;
    for (int i = 0; i < ref.granules(); ++i) {
      if ((states[i] & GranuleState::fidelity_mask) != frozen) {
        continue;
      }
      bool const forced = (states[i] & must) != 0;
      int const level = forced ? exact_level<C> : step.cuts.level(digests.masses[i]);
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
        risers += step.cuts.level(run.masses[i]) > here ||
                          (ref.state(granule) & GranuleState::pinned) != 0
                      ? 1
                      : 0;
      }
    } else {
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

/// @brief Keeps the risers that the transfer budget pays for at the front of `slots()`: forced and
/// pinned ones, then those carried over, then frozen ones by mass, then those of the pools. The
/// others are carried over.
template <class C>
int limit_risers(LaneJob<C> const& job, LadderStep<C> const& step, int count) noexcept {
  LaneRef<C> const& ref = job.ref;
  std::uint32_t* const list = job.scratch->slots();
  std::size_t const affordable = ref.lane->transfer_left / job.geometry().granule_bytes();
  if (ref.lane->transfer_left == unlimited || static_cast<std::size_t>(count) <= affordable) {
    return count;
  }
  Mass const* const masses = step.runs.masses(0);
  constexpr std::uint8_t must = GranuleState::forced | GranuleState::pinned;
  auto const rank = [&](std::uint32_t granule) {
    std::uint8_t const state = ref.state(granule);
    int const first = (state & must) != 0                    ? 0
                      : (state & GranuleState::carried) != 0 ? 1
                      : !was_compact(job, granule)           ? 2
                                                             : 3;
    return std::tuple(first, ~masses[granule], granule);
  };
  std::sort(list, list + count,
            [&](std::uint32_t a, std::uint32_t b) { return rank(a) < rank(b); });
  auto const kept = static_cast<int>(affordable);
  for (int i = kept; i < count; ++i) {
    ref.state(list[i]) |= GranuleState::carried;
  }
  ref.lane->deferred += static_cast<std::uint32_t>(count - kept);
  return kept;
}

/// @brief The risers come: loaded, placed at their levels.
/// @param seen as in raise_compact
template <class C, class Seen>
void raise(LaneJob<C> const& job, int count, Seen&& seen) {
  Scratch& scratch = *job.scratch;
  std::uint32_t const* const list = scratch.slots();
  std::uint8_t const* const levels = scratch.flags();
  std::uint32_t* const batch = scratch.scores();
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
      make_way(job.context->memory, job.ref, level, n);
      thaw_granules(job.context->memory, job.ref, job.context->tier, scratch, batch, n, job.step());
    } else {
      raise_compact(job, batch, n, level, seen);
    }
  }
}

/// @brief What was not needed at its level for `stay` steps sinks to the level of its mass.
/// @param stay 0: whatever this step does not need
template <class C>
void sink(LaneJob<C> const& job, LadderStep<C>& step, int stay) {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  auto const now = static_cast<std::uint16_t>(job.step());
  auto const open = ref.open_range();
  auto const limit = static_cast<std::uint16_t>(std::max(stay, 1));
  std::uint8_t* const levels = scratch.flags();
  std::uint32_t* const list = scratch.slots();
  auto const affordable = [&] {
    return ref.lane->transfer_left == unlimited
               ? std::numeric_limits<std::size_t>::max()
               : ref.lane->transfer_left / job.geometry().granule_bytes();
  };
  // From pool to pool a granule goes by way of the tier; mostly they just freeze.
  int lower = 0;
  for (std::size_t level = 0; level < C::levels; ++level) {
    Mass const* const masses = step.runs.masses(LadderRuns<C>::pools + level);
    for (auto slot = static_cast<std::uint32_t>(step.known[level]); slot-- > 0;) {
      auto const age = static_cast<std::uint16_t>(now - ref.code_stamp(level, slot));
      if (age < limit) {
        continue;
      }
      int const to = step.cuts.level(masses[slot]);
      if (to > static_cast<int>(level) ||
          (to > 0 && static_cast<std::size_t>(lower) >= affordable())) {
        continue;
      }
      std::uint32_t const granule = ref.code_granule(level, slot);
      drop_known(job, step, level, slot);
      if (to > 0) {
        levels[granule] = static_cast<std::uint8_t>(to);
        list[lower++] = granule;
      }
    }
  }
  if (lower > 0) {
    raise(job, lower, [](std::byte const*, std::uint32_t const*, int) {});
  }
  Mass const* const masses = step.runs.masses(LadderRuns<C>::exact);
  std::uint32_t* const slots = scratch.list();
  std::size_t left = affordable();
  int count = 0;
  for (auto slot = static_cast<std::uint32_t>(step.known_exact); slot-- > 0;) {
    SlotRecord const& record = ref.record(slot);
    auto const age = static_cast<std::uint16_t>(now - record.stamp);
    if (age < limit || !ref.is_open(record.granule, open)) {
      continue;
    }
    int const to = step.cuts.level(masses[slot]);
    if (to == exact_level<C>) {
      continue;
    }
    if ((ref.state(record.granule) & GranuleState::clean) == 0) {
      if (left == 0) {
        continue;
      }
      left -= 1;
    }
    levels[record.granule] = static_cast<std::uint8_t>(to);
    slots[count++] = slot;
  }
  sink_exact(job, slots, count, levels);
}

}  // namespace kvfreeze::host
