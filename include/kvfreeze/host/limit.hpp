#pragma once

/// @file
/// @brief A byte cap that changes while sequences are open.

#include <kvfreeze/host/between_steps.hpp>
#include <kvfreeze/host/open_close.hpp>
#include <kvfreeze/host/slow_clock.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvfreeze::host {

/// Granules of [low, high) that pins keep exact.
/// @param pins sorted and disjoint; two may share a granule
inline int pinned_granules(std::vector<TokenRange> const& pins, int low, int high,
                           int page) noexcept {
  int count = 0;
  int next = low;
  for (TokenRange const& pin : pins) {
    int const begin = std::max(pin.begin / page, next);
    int const end = std::min(ceil_div(pin.end, page), high);
    count += std::max(end - begin, 0);
    next = std::max(next, end);
  }
  return count;
}

/// @brief Bytes of one sequence's share that hold, with equal parts for all lanes, what cannot give
/// way, its next row included. Work space is not part of it.
template <class C>
std::size_t stubborn_bytes(Context<C> const& context, std::uint32_t index) noexcept {
  Geometry const& g = context.geometry();
  auto const& sequence = context.sequences[index];
  int const rows = std::min(sequence.length + 1, g.limits.max_tokens);
  std::size_t most = 0;
  for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(g.lanes); ++lane) {
    LaneRef<C> const ref = context.memory.lane(index, lane);
    auto const open = ref.open_range();
    int const least = g.granules(rows) - std::max(open.high - open.low, 0) +
                      pinned_granules(sequence.pins, open.low, open.high, C::page);
    most = std::max(most, lane_bytes<C>(g, least, rows, least_coded<C>(g, rows, least)));
  }
  return most * static_cast<std::size_t>(g.lanes) + page_bytes + context.memory.fixed_bytes() +
         context.memory.query_bytes();
}

/// @brief Would equal shares hold what each of `count` sequences must keep, pins too?
/// @param call who asks
/// @throws CapacityError with the bytes that they need
template <class C>
void require_shares_of(Context<C> const& context, char const* call, std::size_t count) {
  std::size_t const cap = context.geometry().limits.resident_bytes;
  if (C::in_place || cap == unlimited || count == 0) {
    return;
  }
  require_shares(context, call, count);
  std::size_t most = 0;
  for (std::uint32_t i = 0; i < context.sequences.size(); ++i) {
    if (context.sequences[i].open) {
      most = std::max(most, stubborn_bytes(context, i));
    }
  }
  std::size_t const scratch = context.memory.scratch_bytes(context.geometry().limits.max_tokens);
  if ((cap - scratch) / count < most) {
    throw CapacityError(std::string(call) + "(): sinks, windows, pins and newest rows of " +
                            std::to_string(count) + " sequences need " +
                            std::to_string(most * count + scratch) +
                            " bytes, Limits::resident_bytes is " + std::to_string(cap),
                        most * count + scratch, cap);
  }
}

/// Nobody has a share or a budget any more.
template <class C>
void lift_cap(Context<C>& context) noexcept {
  for (std::uint32_t i = 0; i < context.sequences.size(); ++i) {
    auto& sequence = context.sequences[i];
    sequence.share = unlimited;
    sequence.water_level = 0.0F;
    for (std::uint32_t lane = 0;
         sequence.open && lane < static_cast<std::uint32_t>(context.geometry().lanes); ++lane) {
      Lane<C>& own = *context.memory.lane(i, lane).lane;
      own.budget = unlimited;
      own.aim = unlimited;
    }
  }
}

/// @brief Plans anew for the cap that the limits name. A lane over its budget asks the scheduler
/// and the scorer first who stays; the rows wanted longest ago go if that is not enough.
/// @throws TierError whatever the tier throws
template <class C>
void apply_cap(Context<C>& context) {
  if (C::in_place || context.geometry().limits.resident_bytes == unlimited) {
    lift_cap(context);
    return;
  }
  replan(context, [](LaneJob<C> const& job, int allowed) {
    Lane<C>& lane = job.lane();
    job.scratch->commit(lane.rows);
    lane.transfer_left = unlimited;  // the cap comes before the transfer budget
    retain_lane(job, allowed_granules(job.ref, lane.budget, lane.rows) - allowed + 1);
  });
}

/// @brief `Limits::resident_bytes` from now on.
/// @throws InvalidArgument if a step is not finished
/// @throws CapacityError if what has to stay does not fit; nothing was changed then
/// @throws TierError whatever the tier throws; the old cap is in force, what gave way stays frozen
template <class C>
void set_cap(Context<C>& context, std::size_t resident_bytes) {
  for (std::uint32_t i = 0; i < context.sequences.size(); ++i) {
    if (context.sequences[i].open) {
      require_whole_steps(context, "limit", i);
    }
  }
  std::size_t const before = context.geometry().limits.resident_bytes;
  context.memory.limit(resident_bytes);
  try {
    check_least(context);
    require_shares_of(context, "limit", open_sequences(context));
  } catch (...) {
    context.memory.limit(before);
    throw;
  }
  try {
    apply_cap(context);
  } catch (...) {
    context.memory.limit(before);
    try {
      apply_cap(context);
    } catch (TierError const&) {
      // Everyone keeps what he has until the next advance().
    }
    throw;
  }
}

}  // namespace kvfreeze::host
