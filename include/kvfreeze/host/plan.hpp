#pragma once

#include <kvfreeze/host/arguments.hpp>
#include <kvfreeze/host/deal_lanes.hpp>
#include <kvfreeze/host/make_room.hpp>
#include <kvfreeze/host/recall.hpp>

#include <algorithm>
#include <cmath>

namespace kvfreeze::host {

/// Granules of a lane that must be exact once it has `rows` rows.
template <class C>
int least_exact(LaneRef<C> const& ref, int rows) noexcept {
  Geometry const& g = *ref.geometry;
  int const tail = C::has_digest
                       ? (rows - 1) / std::max(C::Digest::group_rows, 1) * C::tail_granules
                       : std::max(g.granules(rows) - 1, 0);
  int const low = ceil_div(g.limits.sinks, g.page);
  int const high = std::min(std::max(rows - 1 - g.limits.window, 0) / g.page, tail);
  return g.granules(rows) - std::max(high - low, 0);
}

/// Codes of a uniformly quantised lane, all of whose unprotected rows have one; a group's rows are
/// exact and coded while they change. Elsewhere none is needed.
template <class C>
int least_coded(Geometry const& g, int rows, int exact) noexcept {
  return C::uniform ? std::max(g.granules(rows) - exact, 0) + C::tail_granules : 0;
}

/// @brief Least bytes that one sequence of `rows` tokens needs, work space included.
template <class C>
std::size_t least_bytes(Context<C> const& context, int rows) noexcept {
  Geometry const& g = context.geometry();
  LaneRef<C> const ref = context.memory.lane(0, 0);
  std::size_t least = 0;  // the tail is fullest just before its group is encoded
  for (int r = std::max(rows - std::max(C::Digest::group_rows, 1), 1); r <= rows; ++r) {
    int const granules = C::in_place ? g.granules(r) : least_exact(ref, r);
    least = std::max(least, lane_bytes<C>(g, granules, r, least_coded<C>(g, r, granules)));
  }
  return least * static_cast<std::size_t>(g.lanes) + page_bytes + context.memory.fixed_bytes() +
         context.memory.query_bytes() + context.memory.scratch_bytes(g.limits.max_tokens);
}

/// @brief Can the limits work at all?
/// @throws InvalidArgument if the ladder's thresholds do not ascend, or a step may not move a
/// granule for each lane
/// @throws CapacityError with the least cap that holds one sequence
template <class C>
void check_least(Context<C> const& context) {
  Geometry const& g = context.geometry();
  Limits const& limits = g.limits;
  if constexpr (C::has_levels) {
    check_rungs(context.scheduler.rungs(LaneFacts{}), C::levels);
  }
  std::size_t const least = least_bytes(context, limits.max_tokens);
  if (!C::in_place && limits.resident_bytes < least) {
    throw CapacityError("Limits::resident_bytes is " + std::to_string(limits.resident_bytes) +
                            ", a sequence of max_tokens = " + std::to_string(limits.max_tokens) +
                            " with sinks = " + std::to_string(limits.sinks) +
                            " and window = " + std::to_string(limits.window) + " needs at least " +
                            std::to_string(least),
                        least, limits.resident_bytes);
  }
  std::size_t const moved = static_cast<std::size_t>(g.lanes) * g.granule_bytes();
  if (!C::in_place && !C::discards && limits.transfer_bytes < moved) {
    throw InvalidArgument("Limits::transfer_bytes is " + std::to_string(limits.transfer_bytes) +
                          ", must be at least " + std::to_string(moved) +
                          ": one granule for each lane and token");
  }
}

/// @brief Deals the byte cap to the open sequences in equal shares.
template <class C>
void deal_shares(Context<C>& context) noexcept {
  Geometry const& g = context.geometry();
  if (C::in_place || g.limits.resident_bytes == unlimited) {
    return;
  }
  std::size_t open = 0;
  for (auto const& sequence : context.sequences) {
    open += sequence.open ? 1 : 0;
  }
  std::size_t const scratch = context.memory.scratch_bytes(g.limits.max_tokens);
  std::size_t const bytes =
      g.limits.resident_bytes > scratch ? g.limits.resident_bytes - scratch : 0;
  for (auto& sequence : context.sequences) {
    if (sequence.open) {
      sequence.share = bytes / open;
    }
  }
}

/// A level of the water, and what all lanes need at it.
struct WaterLevel {
  std::size_t level = 0;
  std::size_t total = 0;
};

/// @brief The lowest level at which what all lanes need fits `bytes`; the last one if none does.
/// @param levels how many there are to choose from
/// @param need need(lane, level), bytes
template <class Need>
WaterLevel lowest_level(std::uint32_t lanes, std::size_t levels, std::size_t bytes,
                        Need const& need) {
  WaterLevel water;
  for (std::size_t level = 0; level < levels; ++level) {
    water = {level, 0};
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      water.total += need(lane, level);
    }
    if (water.total <= bytes) {
      break;
    }
  }
  return water;
}

/// @brief plan_bytes() on the ladder: each lane gets an aim, what it asks for at the lowest water
/// level at which all of them fit the sequence's share, and a hard budget: what it holds and a part
/// of what is free. Lanes move towards their aims as their rows sink; none has to give way at once
/// unless the share itself shrank. O(lanes * levels).
/// @throws TierError whatever the tier throws
template <class C>
void plan_ladder(Context<C>& context, std::uint32_t index, std::size_t bytes) {
  Geometry const& g = context.geometry();
  SequenceRecord<C>& sequence = context.sequences[index];
  auto const lanes = static_cast<std::uint32_t>(g.lanes);
  int const rows = sequence.length + 1;
  std::size_t const tiles = g.lane_tiles_bytes(rows);
  int const groups = rows / C::Digest::group_rows;
  auto const need = [&](std::uint32_t lane, std::size_t level) {
    LaneRef<C> const ref = context.memory.lane(index, lane);
    std::size_t const demand = ref.lane->demand[level];
    int const least = least_exact(ref, rows);
    ArenaBlocks blocks{groups, ceil_div(least, g.slots_per_block) + 1};
    blocks[arena_pool(0)] = ceil_div(least_coded<C>(g, rows, least), g.slots_per_block);
    std::size_t const protect = g.arena.segment_bytes(arena_rows, blocks[arena_rows] - 1);
    // An eighth more than it needs in one step: rows keep their level for a while.
    std::size_t const more = std::max(demand + demand / 8, protect) - protect;
    return tiles + round_up(g.arena.packed_bytes(blocks) + more, page_bytes);
  };
  auto const [level, total] = lowest_level(lanes, water_levels, bytes, need);
  sequence.water_level = level > 0 ? context.levels[level] : 0.0F;
  std::size_t const spare = total <= bytes ? (bytes - total) / lanes : 0;
  // That much is a lane's own beside what it holds.
  std::size_t const floor = lane_floor<C>(g, sequence.length, bytes);
  auto const base_of = [&](LaneRef<C> const& ref) {
    ArenaBlocks blocks = ref.held_blocks();
    blocks[arena_digests] = groups;
    return std::max(floor, tiles + g.arena.bytes(blocks));
  };
  std::size_t base = 0;
  std::size_t wanted = 0;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    LaneRef<C> const ref = context.memory.lane(index, lane);
    ref.lane->aim = total <= bytes ? need(lane, level) + spare : bytes / lanes;
    std::size_t const own = base_of(ref);
    base += own;
    wanted += ref.lane->aim > own ? ref.lane->aim - own : 0;
  }
  auto const part = [](std::size_t of, std::size_t share, std::size_t all) {
    return all == 0
               ? 0
               : static_cast<std::size_t>(static_cast<double>(of) *
                                          (static_cast<double>(share) / static_cast<double>(all)));
  };
  if (base <= bytes) {
    std::size_t const free = bytes - base;
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      LaneRef<C> const ref = context.memory.lane(index, lane);
      std::size_t const own = base_of(ref);
      std::size_t const growth = ref.lane->aim > own ? ref.lane->aim - own : 0;
      ref.lane->budget =
          own + (wanted <= free ? growth + (free - wanted) / lanes : part(free, growth, wanted));
    }
    return;
  }
  // The share shrank, or the floors rose: who holds more than the floor gives way now.
  std::size_t const over = base - bytes;
  std::size_t const excess = base - floor * lanes;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    LaneRef<C> const ref = context.memory.lane(index, lane);
    std::size_t const own = base_of(ref);
    std::size_t const less = part(over, own - floor, excess) + 1;
    ref.lane->budget = own > floor + less ? own - less : std::min(own, floor);
  }
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    LaneJob<C> const job = lane_job(context, index, lane);
    yield_codes(job, 1, rows);
    make_room(job, job.lane().exact + 1 - allowed_granules(job.ref, job.lane().budget, rows),
              Victims::any);
    context.memory.shrink_arena(job.ref, ArenaGeometry::any);
  }
}

/// @brief Gives each lane its bytes for the next step: the lowest water level at which what all
/// lanes want fits the sequence's share, then what is left over in equal parts.
///
/// Each lane is left room for the sinks, window and newest group of the next `planned_chunk`
/// tokens. Lanes over their new budget freeze at once. O(lanes * levels).
/// @param yield yield(job, allowed): called for a lane with no room for its next granule among the
/// `allowed` exact ones, before those wanted longest ago go
/// @throws TierError whatever the tier throws
template <class C, class Yield>
void plan_bytes(Context<C>& context, std::uint32_t index, Yield&& yield) {
  if constexpr (C::in_place) {
    return;
  } else {
    Geometry const& g = context.geometry();
    SequenceRecord<C>& sequence = context.sequences[index];
    sequence.water_level = 0.0F;
    if (sequence.share == unlimited) {
      return;
    }
    auto const lanes = static_cast<std::uint32_t>(g.lanes);
    std::size_t const fixed =
        context.memory.fixed_bytes() + context.memory.query_bytes() + page_bytes;
    std::size_t const bytes = sequence.share > fixed ? sequence.share - fixed : 0;
    if constexpr (C::has_levels) {
      plan_ladder(context, index, bytes);
      return;
    }
    int const rows = sequence.length + 1;
    bool const by_demand = kvfreeze::detail::base_level(context.scheduler) > 0.0F;
    // Nothing grows at another's expense within a step.
    std::size_t const floor = lane_floor<C>(g, sequence.length, bytes);
    auto const need = [&](std::uint32_t lane, std::size_t level) {
      LaneRef<C> const ref = context.memory.lane(index, lane);
      auto const wanted = by_demand ? static_cast<int>(ref.lane->demand[level]) : 0;
      int const least = least_exact(ref, rows);
      return std::max(
          floor,
          lane_bytes<C>(g, std::min(least + wanted + g.slots_per_block, g.granules(rows)), rows));
    };
    auto const [level, total] = lowest_level(lanes, by_demand ? water_levels : 1, bytes, need);
    if (level > 0) {
      sequence.water_level = context.levels[level];
    }
    if constexpr (kvfreeze::detail::DealsShares<typename C::Scheduler>) {
      deal_lanes(context, index, bytes);
    } else {
      std::size_t const spare = total <= bytes ? (bytes - total) / lanes : 0;
      for (std::uint32_t lane = 0; lane < lanes; ++lane) {
        context.memory.lane(index, lane).lane->budget =
            total <= bytes ? need(lane, level) + spare : bytes / lanes;
      }
    }
    try {
      for (std::uint32_t lane = 0; lane < lanes; ++lane) {
        LaneJob<C> const job = lane_job(context, index, lane);
        int const allowed = allowed_granules(job.ref, job.lane().budget, rows);
        if (job.lane().exact >= allowed) {
          yield(job, allowed);
        }
        make_room(job, job.lane().exact + 1 - allowed, Victims::any);
      }
    } catch (...) {  // who did not shrink keeps what it has, so nobody may grow
      for (std::uint32_t lane = 0; lane < lanes; ++lane) {
        LaneRef<C> const ref = context.memory.lane(index, lane);
        ref.lane->budget = lane_bytes<C>(g, ref.lane->blocks * g.slots_per_block, sequence.length);
      }
      throw;
    }
  }
}

template <class C>
void plan_bytes(Context<C>& context, std::uint32_t index) {
  plan_bytes(context, index, [](LaneJob<C> const&, int) {});
}

/// @brief Gives memory back that a lane does not use. With a cap every block counts; without one a
/// margin, and a look every sixteenth step only where little is spare, save system calls. On the
/// ladder a lane has most to give when its rows have just sunk.
template <class C>
void release_blocks(Context<C>& context, std::uint32_t index) noexcept {
  if constexpr (!C::in_place) {
    bool const capped = context.sequences[index].share != unlimited;
    for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(context.geometry().lanes);
         ++lane) {
      LaneRef<C> const ref = context.memory.lane(index, lane);
      if constexpr (C::has_levels) {  // whoever needs the room earlier takes it: grow_arena()
        bool const look = sinks_now(context, index, lane);
        context.memory.shrink_arena(ref, look ? ArenaGeometry::little : ArenaGeometry::much);
      } else {
        int const used = ceil_div(ref.lane->slots, context.geometry().slots_per_block);
        int const margin = capped ? 0 : 2 + used / 16;
        bool const look = capped || ref.lane->blocks > used + 4 + used / 4 ||
                          (context.sequences[index].step + lane) % 16 == 0;
        if (look && ref.lane->blocks > used + margin) {
          context.memory.shrink_rows(ref, ref.lane->slots);
        }
      }
    }
  }
}

/// @brief Deals the transfer budget of the next step: equal parts, the rest one granule each to the
/// lanes that had to defer, then round the others, from another lane each step.
template <class C>
void plan_transfers(Context<C>& context, std::uint32_t index) noexcept {
  Geometry const& g = context.geometry();
  if (g.limits.transfer_bytes == unlimited) {
    return;
  }
  auto const lanes = static_cast<std::uint32_t>(g.lanes);
  std::size_t const granules = g.limits.transfer_bytes / g.granule_bytes();
  std::size_t const each = granules / lanes;
  auto rest = static_cast<std::uint32_t>(granules % lanes);
  std::uint32_t const start = context.sequences[index].step % lanes;
  for (bool const deferred : {true, false}) {
    for (std::uint32_t i = 0; i < lanes; ++i) {
      Lane<C>& lane = *context.memory.lane(index, (start + i) % lanes).lane;
      if ((lane.deferred > 0) == deferred) {
        std::size_t const extra = rest > 0 ? 1 : 0;
        rest -= rest > 0 ? 1U : 0U;
        lane.allotment = (each + extra) * g.granule_bytes();
      }
    }
  }
}

/// Would equal shares hold what each of `count` sequences must keep?
/// @param call who asks
/// @param tokens the least length to reckon with
/// @throws CapacityError with the bytes that they need
template <class C>
void require_shares(Context<C> const& context, char const* call, std::size_t count,
                    int tokens = 0) {
  auto const& limits = context.geometry().limits;
  if (C::in_place || limits.resident_bytes == unlimited) {
    return;
  }
  std::size_t const scratch = context.memory.scratch_bytes(limits.max_tokens);
  int longest = tokens + 1;
  for (auto const& sequence : context.sequences) {
    longest = std::max(longest, sequence.open ? sequence.length + 1 : 1);
  }
  std::size_t const each = least_bytes(context, longest) - scratch;
  if ((limits.resident_bytes - scratch) / count < each) {
    throw CapacityError(std::string(call) + "(): " + std::to_string(count) + " sequences need " +
                            std::to_string(each * count + scratch) +
                            " bytes, Limits::resident_bytes is " +
                            std::to_string(limits.resident_bytes),
                        each * count + scratch, limits.resident_bytes);
  }
}

/// @brief Shares and budgets of all open sequences, after one came or went. Without a cap they have
/// nothing to do with one another.
/// @param yield as in plan_bytes()
/// @throws TierError whatever the tier throws
template <class C, class Yield>
void replan(Context<C>& context, Yield&& yield) {
  if (C::in_place || context.geometry().limits.resident_bytes == unlimited) {
    return;
  }
  deal_shares(context);
  for (std::uint32_t i = 0; i < context.sequences.size(); ++i) {
    if (context.sequences[i].open) {
      plan_bytes(context, i, yield);
      release_blocks(context, i);
    }
  }
}

template <class C>
void replan(Context<C>& context) {
  replan(context, [](LaneJob<C> const&, int) {});
}

}  // namespace kvfreeze::host
