#pragma once

/// @file
/// @brief The ladder's cuts: masses from which a row stands above each level, what they ask for,
/// and what the water levels would.

#include <kvfreeze/detail/ladder_cost.hpp>
#include <kvfreeze/host/ladder_moves.hpp>
#include <kvfreeze/host/ladder_scan.hpp>
#include <kvfreeze/host/recall.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <algorithm>
#include <array>
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
  /// [lane_queries] in the scratch: largest logits, octaves.
  float* highest = nullptr;
  /// [lane_queries] in the scratch: weights of the frozen rows, without those that rise.
  float* absent = nullptr;
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

/// The masses of a run that are at least `threshold`, side by side into `out`. @return their number
inline int list_masses(LogitRun const& run, Mass threshold, Mass* out) noexcept {
  int const count = list_at_least(run.masses, run.states, run.rows, threshold, out);
  for (int i = 0; i < count; ++i) {
    out[i] = run.masses[out[i]];
  }
  return count;
}

/// @brief Cuts at ranks: the mass of the last row that is attended, and of the last one above each
/// level. Equal masses are not told apart.
template <class C>
LadderCuts<C> find_rank_cuts(LaneJob<C> const& job, LadderRuns<C> const& runs,
                             Rungs const& rungs) noexcept {
  Mass* const masses = job.scratch->scores();
  int count = 0;
  for (LogitRun const& run : runs.run) {
    count += list_masses(run, 1, masses + count);
  }
  LadderCuts<C> cuts;
  int wanted = rungs.attended;
  for (std::size_t i = 0; i <= static_cast<std::size_t>(C::levels); ++i) {
    if (i > 0) {
      wanted = std::min(wanted, static_cast<int>(rungs.above[i - 1]));
    }
    if (wanted >= count) {
      cuts.least[i] = i > 0 ? std::max(cuts.least[i - 1], 1U) : 1U;
    } else if (wanted <= 0) {
      cuts.least[i] = std::numeric_limits<Mass>::max();
    } else {
      std::nth_element(masses, masses + wanted - 1, masses + count, std::greater<>());
      cuts.least[i] = masses[wanted - 1];
      count = wanted;  // the next rank is among these
    }
  }
  std::copy(cuts.least.begin(), cuts.least.end(), job.lane().least.begin());
  return cuts;
}

/// @brief The cuts that the thresholds ask for.
///
/// The lowest comes from all rows; the others from those above it, of which there are few.
template <class C>
LadderCuts<C> find_cuts(LaneJob<C> const& job, LadderRuns<C> const& runs,
                        Rungs const& rungs) noexcept {
  if (rungs.attended >= 0) {
    return find_rank_cuts(job, runs, rungs);
  }
  Lane<C>& lane = job.lane();
  LadderCuts<C> cuts;
  Mass const frozen = to_mass(rungs.frozen);
  cuts.least[0] = mass_threshold(runs.all(), frozen, lane.least[0]);
  Mass* const masses = job.scratch->scores();
  LogHistogram alive;
  for (LogitRun const& run : runs.run) {
    int const count = list_masses(run, std::max(cuts.least[0], 1U), masses);
    alive.add(masses, nullptr, static_cast<std::size_t>(count));
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
    Mass* const masses = job.scratch->scores();
    all.add(masses, nullptr, static_cast<std::size_t>(list_masses(run, 1, masses)));
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
    bool const ranks = rungs.attended >= 0;
    int const most = facts.granules - facts.protected_granules;
    int above =
        ranks ? std::min(most, static_cast<int>(rungs.attended)) : at_or_above(rungs.frozen);
    for (std::size_t level = 0; level < C::levels; ++level) {
      int const wanted = ranks ? static_cast<int>(rungs.above[level])
                               : at_or_above(std::max(rungs.compact[level], rungs.frozen));
      int const next = std::min(above, wanted);
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
LadderSize<C> ladder_wish(LadderStep<C> const& step, LaneFacts const& facts) noexcept {
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
  return size;
}

/// @brief Estimates every row of the lane under the scratch's queries and finds the cuts.
///
/// Afterwards the runs hold weights relative to the step's `highest`, and masses by granule.
/// @param everything the cuts are 0: all rows are wanted exact
template <class C>
LadderStep<C> rank_rows(LaneJob<C> const& job, LaneFacts const& facts, bool everything) noexcept {
  load_states(job);
  LadderStep<C> step;
  step.runs = scan_lane(job);
  step.highest = job.scratch->highest();
  step.absent = job.scratch->absent();
  int const heads = job.geometry().lane_queries;
  largest_logits(step.runs.all(), heads, step.highest);
  softmax_masses(step.runs.all(), heads, nullptr, step.highest);
  for (int h = 0; h < heads; ++h) {
    LogitRun const& digests = step.runs.run[0];
    step.absent[h] = sum_weights(digests.logits + h * digests.stride, digests.rows);
  }
  sum_granules(job, step.runs);
  protect_masses(job, step.runs);
  if (!everything) {
    step.cuts = find_cuts(job, step.runs, job.context->scheduler.rungs(facts));
  }
  step.known_exact = job.ref.lane->slots;
  for (std::size_t level = 0; level < C::levels; ++level) {
    step.known[level] = job.ref.lane->pools[level].slots;
  }
  return step;
}

/// @brief Raises the cuts until what they ask for fits so many of the lane's bytes: its aim, or its
/// budget.
template <class C>
void fit_cuts(LaneJob<C> const& job, LadderStep<C>& step, LaneFacts facts,
              std::size_t bytes) noexcept {
  Geometry const& g = job.geometry();
  std::size_t const room = ladder_room(job.ref, bytes);
  // Room for the rows to come stays free: a block of exact rows.
  std::size_t const usable = room > g.block_bytes ? room - g.block_bytes : 0;
  if (ladder_wish(step, facts).bytes(g) <= usable) {
    return;
  }
  job.lane().over_cap = true;
  note_ladder_demand(job, step.runs, facts);
  std::size_t level = 0;
  while (level + 1 < water_levels && job.lane().demand[level] > usable) {
    ++level;
  }
  facts.water_level = job.context->levels[level];
  step.cuts = find_cuts(job, step.runs, job.context->scheduler.rungs(facts));
}

/// @brief Looks whether the ladder would pay for a lane that is all exact: now and then as it
/// grows.
///
/// What it would hold is known from one ranking. @see kvfreeze::detail::ladder_cost
template <class C>
void look_at_cost(LaneJob<C> const& job, LaneFacts const& facts) noexcept {
  LadderStep<C> const step = rank_rows(job, facts, false);
  LadderSize<C> const size = ladder_wish(step, facts);
  int compact = 0;
  for (int const granules : size.compact) {
    compact += granules;
  }
  job.lane().ladder_cost =
      kvfreeze::detail::ladder_cost(facts.granules, size.exact, compact, C::page);
  job.lane().next_look = kvfreeze::detail::next_look(job.lane().rows, C::Digest::group_rows);
}

}  // namespace kvfreeze::host
