#pragma once

/// @file
/// @brief A sequence becomes bytes: docs/sessions.md has the format.

#include <kvfreeze/host/between_steps.hpp>
#include <kvfreeze/host/plan.hpp>
#include <kvfreeze/host/session_description.hpp>
#include <kvfreeze/host/session_state.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <ostream>
#include <span>
#include <vector>

namespace kvfreeze::host {

/// The sequence's numbers, pins and trigger, and what each lane knows and was left.
template <class C>
void save_record(Context<C>& context, std::uint32_t index, BlockWriter& out) {
  SequenceRecord<C>& sequence = context.sequences[index];
  std::size_t transfer_bytes = context.geometry().limits.transfer_bytes;
  out.begin(sequence_block);
  exchange_sequence<C>(out, sequence, transfer_bytes);
  out.number(static_cast<std::uint32_t>(sequence.pins.size()));
  for (TokenRange const& pin : sequence.pins) {
    out.number(pin.begin);
    out.number(pin.end);
  }
  auto const trigger = trigger_bytes(sequence.trigger);
  out.number(static_cast<std::uint32_t>(trigger.size()));
  out.bytes(trigger.data(), trigger.size());
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
    LaneRef<C> const ref = context.memory.lane(index, i);
    Lane<C> lane = *ref.lane;
    for (std::size_t level = 0; level < C::levels; ++level) {  // an empty pool begins anew
      lane.pools[level].consecutive = lane.pools[level].consecutive || lane.pools[level].slots == 0;
    }
    exchange_lane<C>(out, lane);
    LanePlan plan{lane.budget, lane.aim, lane.allotment, {}};
    if constexpr (C::has_levels) {
      plan.blocks = ref.held_blocks();
    } else {
      plan.blocks[arena_rows] = lane.blocks;
    }
    exchange_plan(out, plan);
  }
  out.end();
}

/// A lane's metadata, digests, queries and codes, and which granule is in which slot.
template <class C>
void save_lane(LaneJob<C> const& job, BlockWriter& out) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  auto const granules = static_cast<std::uint32_t>(ref.granules());
  out.begin(lane_block);
  for (std::uint32_t granule = 0; granule < granules; ++granule) {
    out.number(ref.state(granule));
    std::uint32_t wake = 0;
    if constexpr (C::sleeps) {
      wake = ref.fidelity(granule) == Fidelity::asleep ? ref.timer(granule).wake : 0;
    }
    exchange_granule<C>(out, ref, granule, wake);
  }
  if constexpr (C::has_digest) {
    out.bytes(ref.digests(), saved_digest_bytes<C>(g, ref.lane->groups));
  }
  exchange_queries(out, job);
  auto const slots = static_cast<std::uint32_t>(ref.lane->slots);
  out.number(slots);
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    Slot<C> const& record = ref.record(slot);
    std::uint32_t const granule = C::in_place ? slot : record.granule;
    out.number(granule);
    out.number(record.stamp);
    out.number(record.value);
    if constexpr (C::scores_in_slots) {
      out.bytes(&record.score, sizeof record.score);
    }
    if constexpr (C::needs_queries) {
      for (int row = 0; row < C::page; ++row) {
        out.number(row < ref.rows_of(granule) ? ref.sums(slot)[row] : 0U);
      }
    }
  }
  for (std::size_t level = 0; level < C::levels; ++level) {
    auto const codes = static_cast<std::uint32_t>(ref.lane->pools[level].slots);
    out.number(codes);
    for (std::uint32_t slot = 0; slot < codes; ++slot) {
      out.number(ref.code_granule(level, slot));
      out.number(ref.code_stamp(level, slot));
      for_code_rows(ref, level, slot,
                    [&](std::byte const* row, std::size_t bytes) { out.bytes(row, bytes); });
    }
  }
  out.end();
}

/// Writes a granule; of rows that were never appended, or forgotten, nothing is left.
template <class C>
void save_granule(LaneRef<C> const& ref, std::uint32_t granule, std::byte const* k,
                  std::byte const* v, BlockWriter& out) {
  std::size_t const part = ref.geometry->part_bytes;
  std::size_t const used =
      part / static_cast<std::size_t>(C::page) * static_cast<std::size_t>(ref.rows_of(granule));
  std::vector<std::byte> const nothing(part - used);
  for (std::byte const* const from : {k, v}) {
    out.bytes(from, used);
    out.bytes(nothing.data(), nothing.size());
  }
}

/// @brief A lane's exact rows, wherever they are: those of its slots, then by position those that
/// only the tier holds.
/// @throws TierError whatever the tier throws
template <class C>
void save_rows(LaneJob<C> const& job, BlockWriter& out) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  auto const slots = static_cast<std::uint32_t>(ref.lane->slots);
  constexpr std::uint32_t batch = transfer_batch;
  for (std::uint32_t first = 0; first < slots; first += batch) {
    out.begin(rows_block);
    std::uint32_t const last = std::min(first + batch, slots);
    for (std::uint32_t slot = first; slot < last; ++slot) {
      save_granule(ref, C::in_place ? slot : ref.record(slot).granule,
                   reinterpret_cast<std::byte const*>(ref.k(slot)),
                   reinterpret_cast<std::byte const*>(ref.v(slot)), out);
    }
    out.end();
  }
  if constexpr (!C::in_place && !C::discards) {
    std::vector<std::uint32_t> away;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(ref.granules()); ++i) {
      if (ref.fidelity(i) != Fidelity::exact) {
        away.push_back(i);
      }
    }
    Scratch& scratch = *job.scratch;
    for (std::size_t first = 0; first < away.size(); first += batch) {
      std::size_t const count = std::min<std::size_t>(away.size() - first, batch);
      for (std::size_t i = 0; i < count; ++i) {
        std::byte* const k = scratch.loaded() + i * g.granule_bytes();
        ::new (scratch.loads() + i) LoadRequest{
            ref.key(away[first + i]), {k, g.part_bytes}, {k + g.part_bytes, g.part_bytes}};
      }
      job.context->tier.load({scratch.loads(), count});
      out.begin(rows_block);
      for (std::size_t i = 0; i < count; ++i) {
        std::byte const* const k = scratch.loaded() + i * g.granule_bytes();
        save_granule(ref, away[first + i], k, k + g.part_bytes, out);
      }
      out.end();
    }
  }
}

/// @brief Writes a sequence as it is between two steps. The sequence is left as it was.
/// @throws InvalidArgument if a step is not finished
/// @throws StreamError if the stream refuses bytes
/// @throws TierError whatever the tier throws
template <class C>
void save_sequence(Context<C>& context, std::uint32_t index, std::ostream& stream) {
  require_whole_steps(context, "save", index);
  BlockWriter out(stream);
  write_description(context, out);
  save_record(context, index, out);
  for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(context.geometry().lanes);
       ++lane) {
    LaneJob<C> const job = lane_job(context, index, lane);
    save_lane(job, out);
    save_rows(job, out);
  }
  out.begin(end_block);
  out.end();
}

}  // namespace kvfreeze::host
