#pragma once

/// @file
/// @brief Rows that were not needed at their level: who they are, and where they go.

#include <kvfreeze/host/ladder_rise.hpp>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace kvfreeze::host {

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

/// @brief What was not needed at its level for `stay` steps sinks to the level of its mass.
/// @param stay 1: whatever this step does not need
template <class C>
void sink(LaneJob<C> const& job, LadderStep<C>& step, int stay) {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  auto const now = static_cast<std::uint16_t>(job.step());
  auto const open = ref.open_range();
  auto const limit = static_cast<std::uint16_t>(std::max(stay, 1));
  std::uint8_t* const levels = scratch.flags();
  std::uint32_t* const list = scratch.slots();
  std::size_t const affordable = affordable_granules(ref);
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
          (to > 0 && static_cast<std::size_t>(lower) >= affordable)) {
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
    raise(job, lower, [](std::byte const*, int) {});
  }
  Mass const* const masses = step.runs.masses(LadderRuns<C>::exact);
  std::uint32_t* const slots = scratch.list();
  std::size_t left = affordable_granules(ref);
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

/// Sinks on the fast clock: a tier that refuses rows leaves them exact, and advance() says so.
template <class C>
void sink_guarded(LaneJob<C> const& job, LadderStep<C>& step, int stay) {
  try {
    sink(job, step, stay);
  } catch (TierError const&) {
    job.lane().refused = true;
    job.scratch->failure = std::current_exception();
  }
}

}  // namespace kvfreeze::host
