#pragma once

/// @file
/// @brief Bytes become a sequence. Nothing is believed of them but what their checksums and the
/// cache's own sizes confirm.

#include <kvfreeze/host/open_close.hpp>
#include <kvfreeze/host/restore_rows.hpp>
#include <kvfreeze/host/session_description.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>
#include <utility>
#include <vector>

namespace kvfreeze::host {

/// A saved sequence, but for its lanes' metadata and rows.
template <class C>
struct SavedSequence {
  SequenceRecord<C> record;
  std::size_t transfer_bytes = unlimited;
  std::vector<Lane<C>> lanes;
  std::vector<LanePlan> plans;
};

/// @throws FormatError if a number is out of its range
inline void require_saved(bool holds, char const* what, long value) {
  if (!holds) {
    throw FormatError(std::string("restore(): ") + what + " is " + std::to_string(value) +
                      " in the saved sequence, which cannot be");
  }
}

/// @brief Reads the sequence's own block.
/// @throws FormatError
/// @throws CapacityError if the limits do not hold so many tokens
template <class C>
SavedSequence<C> read_record(Context<C> const& context, BlockReader& in) {
  Geometry const& g = context.geometry();
  SavedSequence<C> saved{
      .record = {.pins = {}, .trigger = context.trigger}, .lanes = {}, .plans = {}};
  SequenceRecord<C>& record = saved.record;
  auto const lanes = static_cast<std::size_t>(g.lanes);
  BlockBytes block = in.next(sequence_block, (std::uint64_t{1} << 24) + lanes * 1024);
  exchange_sequence<C>(block, record, saved.transfer_bytes);
  int const length = record.length;
  require_saved(length >= 0, "the length", length);
  for (int const checkpoint : record.checkpoints) {
    require_saved(checkpoint >= 0 && checkpoint <= length, "a checkpoint", checkpoint);
  }
  auto const pins = block.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < pins; ++i) {
    TokenRange pin;
    exchange(block, pin.begin, pin.end);
    int const last = record.pins.empty() ? 0 : record.pins.back().end;
    require_saved(pin.begin >= last && pin.end > pin.begin, "a pin's begin", pin.begin);
    record.pins.push_back(pin);
  }
  set_trigger(record.trigger, block.take(block.number<std::uint32_t>()));
  for (std::size_t i = 0; i < lanes; ++i) {
    Lane<C>& lane = saved.lanes.emplace_back();
    lane.wheel.fill(no_granule);
    lane.tail.fill(no_slot);
    lane.rows = length;
    exchange_lane<C>(block, lane);
    require_saved(lane.held >= 0 && lane.held <= g.window_queries, "a lane's queries", lane.held);
    require_saved(lane.owed >= 0 && lane.owed <= g.granules(length), "a lane's debt", lane.owed);
    exchange_plan(block, saved.plans.emplace_back());
  }
  block.finish();
  int const needed = std::max(length, record.pins.empty() ? 0 : record.pins.back().end);
  if (needed > g.limits.max_tokens) {
    throw CapacityError("restore(): the sequence has " + std::to_string(length) +
                            " tokens and pins up to " + std::to_string(needed) +
                            ", Limits::max_tokens is " + std::to_string(g.limits.max_tokens),
                        static_cast<std::size_t>(needed),
                        static_cast<std::size_t>(g.limits.max_tokens));
  }
  return saved;
}

/// Gives the lanes of a claimed sequence what they knew, and no rows yet.
template <class C>
void fill_record(Context<C>& context, std::uint32_t index, SavedSequence<C>& saved) {
  SequenceRecord<C>& record = context.sequences[index];
  std::uint32_t const generation = record.generation;
  record = std::move(saved.record);
  record.open = true;
  record.generation = generation;
  saved.record.share = record.share;
  saved.record.water_level = record.water_level;
  record.share = unlimited;
  record.water_level = 0.0F;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
    Lane<C>& lane = *context.memory.lane(index, i).lane;
    lane = saved.lanes[i];
    lane.rows = 0;
  }
}

/// @brief Brings the rows of a claimed and planned sequence, lane by lane.
///
/// Where the caps and the number of open sequences are what they were, each lane gets the budget
/// that it had.
/// @throws FormatError, CapacityError
/// @throws TierError whatever the tier throws
template <class C>
void fill_lanes(Context<C>& context, std::uint32_t index, SavedSequence<C> const& saved,
                BlockReader& in) {
  SequenceRecord<C>& record = context.sequences[index];
  bool const same_share = record.share == saved.record.share;
  bool const same_traffic = context.geometry().limits.transfer_bytes == saved.transfer_bytes;
  if (same_share) {
    record.water_level = saved.record.water_level;
  }
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
    LaneJob<C> const job = lane_job(context, index, i);
    LanePlan const& plan = saved.plans[i];
    if (same_share) {
      job.lane().budget = plan.budget;
      job.lane().aim = plan.aim;
    }
    if (same_traffic) {
      job.lane().allotment = plan.allotment;
    }
    restore_lane(job, saved.lanes[i], in);
    if (same_share) {
      hold_blocks(job, plan.blocks);
    }
  }
  in.next(end_block, 0).finish();
}

}  // namespace kvfreeze::host
