#pragma once

#include <kvfreeze/host/code_pools.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/movers.hpp>
#include <kvfreeze/host/timers.hpp>

#include <algorithm>
#include <functional>
#include <tuple>

namespace kvfreeze::host {

/// Which exact granules may go when a lane needs room.
enum class Victims : std::uint8_t {
  unwanted,  ///< those that this step's recall did not mark in `wanted()`
  any,       ///< every open one, unwanted ones first
};

/// @brief Who goes first where rows have to: those wanted longest ago, then those with the least
/// evidence, then the oldest. Ascending.
/// @param step the current one
inline std::tuple<int, std::uint16_t, std::uint32_t> eviction_rank(SlotRecord const& record,
                                                                   std::uint32_t step) noexcept {
  auto const now = static_cast<std::uint16_t>(step);
  auto const age = static_cast<std::uint16_t>(now - record.stamp);
  return {0xFFFF - age, record.value, record.granule};
}

/// @brief Freezes up to `count` exact granules of a lane: those wanted longest ago, then those with
/// the least evidence, then the oldest.
///
/// The byte cap comes before the transfer budget: what must go goes.
/// @return how many were frozen
/// @throws TierError whatever the tier throws
template <class C>
int make_room(LaneJob<C> const& job, int count, Victims victims) {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  std::uint32_t* const slots = job.scratch->slots();
  int found = 0;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if (ref.is_open(granule, open) &&
        (victims == Victims::any || job.scratch->wanted()[granule] == 0)) {
      slots[found++] = slot;
    }
  });
  count = std::min(count, found);
  if (count <= 0) {
    return 0;
  }
  auto const rank = [&](std::uint32_t slot) { return eviction_rank(ref.record(slot), job.step()); };
  if (count < found) {
    std::nth_element(slots, slots + count, slots + found,
                     [&](std::uint32_t a, std::uint32_t b) { return rank(a) < rank(b); });
  }
  std::sort(slots, slots + count, std::greater<>());
  freeze_slots(ref, job.context->tier, *job.scratch, slots, count, job.step(),
               [](std::uint32_t) {});
  return count;
}

/// @brief Makes the lane's codes give way, coarsest level first and a quarter of a pool at a time,
/// until `more` exact granules fit the budget beside them. For lanes whose budget shrank under
/// them; as a rule recall has met the budget before.
template <class C>
void yield_codes(LaneJob<C> const& job, int more, int rows) noexcept {
  if constexpr (C::has_levels) {
    LaneRef<C> const& ref = job.ref;
    auto const fits = [&] {
      return ref.lane->exact + more <= allowed_granules(ref, ref.lane->budget, rows);
    };
    for (std::size_t level = 0; level < C::levels && !fits(); ++level) {
      while (ref.lane->pools[level].slots > 0 && !fits()) {
        int const kept = ref.lane->pools[level].slots * 3 / 4;
        while (ref.lane->pools[level].slots > kept) {
          drop_code(ref, level, static_cast<std::uint32_t>(ref.lane->pools[level].slots - 1),
                    job.step());
        }
      }
    }
  }
}

/// @brief Makes sure that a lane may hold `extra` more exact granules at `rows` rows.
/// @throws CapacityError with the bytes that the protected granules need
template <class C>
void require_room(LaneJob<C> const& job, int extra, int rows) {
  if constexpr (!C::in_place) {
    Lane<C> const& lane = job.lane();
    int const allowed = allowed_granules(job.ref, lane.budget, rows);
    if (lane.exact + extra <= allowed) {
      return;
    }
    if constexpr (C::has_levels) {
      yield_codes(job, extra, rows);
    }
    int const missing = lane.exact + extra - allowed_granules(job.ref, lane.budget, rows);
    if (make_room(job, missing, Victims::any) < missing) {
      std::size_t const needed = lane_bytes<C>(job.geometry(), lane.exact + extra, rows);
      throw CapacityError("Limits::resident_bytes leaves " + std::to_string(lane.budget) +
                              " bytes for a lane that needs " + std::to_string(needed) +
                              " for its sinks, window, pins and newest rows at " +
                              std::to_string(rows) + " tokens",
                          needed, lane.budget);
    }
  }
}

}  // namespace kvfreeze::host
