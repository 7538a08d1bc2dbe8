#pragma once

/// @file
/// @brief How rows change level: down from exact, down from a pool, up from the tier.

#include <kvfreeze/host/code_pools.hpp>
#include <kvfreeze/host/movers.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <new>

namespace kvfreeze::host {

/// A level as the ladder counts them: 0 frozen, then the compact ones, then exact.
template <class C>
inline constexpr int exact_level = C::levels + 1;

/// What a lane holds, or might, in exact and compact granules.
template <class C>
struct LadderSize {
  int exact = 0;
  std::array<int, most_levels> compact{};

  /// Counts granules at a level: exact, compact, or frozen ones, which take nothing.
  void add(int level, int granules) noexcept {
    if (level == exact_level<C>) {
      exact += granules;
    } else if (level > 0) {
      compact[static_cast<std::size_t>(level - 1)] += granules;
    }
  }

  [[nodiscard]] ArenaBlocks blocks(Geometry const& g) const noexcept {
    ArenaBlocks blocks{0, ceil_div(exact, g.slots_per_block)};
    for (std::size_t level = 0; level < C::levels; ++level) {
      blocks[arena_pool(level)] = ceil_div(compact[level], g.slots_per_block);
    }
    return blocks;
  }

  /// Bytes that they take in the lane's arena.
  [[nodiscard]] std::size_t bytes(Geometry const& g) const noexcept {
    return g.arena.packed_bytes(blocks(g));
  }

  /// What the lane holds.
  static LadderSize of(LaneRef<C> const& ref) noexcept {
    LadderSize size;
    size.exact = ref.lane->slots;
    for (std::size_t level = 0; level < C::levels; ++level) {
      size.compact[level] = ref.lane->pools[level].slots;
    }
    return size;
  }
};

/// What of `bytes` is left to a lane for rows and codes.
template <class C>
std::size_t ladder_room(LaneRef<C> const& ref, std::size_t bytes) noexcept {
  Geometry const& g = *ref.geometry;
  std::size_t const room = g.arena_room(bytes, ref.lane->rows);
  std::size_t const digests =
      g.arena.segment_bytes(arena_digests, ref.lane->rows / C::Digest::group_rows);
  return room == unlimited ? unlimited : room > digests ? room - digests : 0;
}

/// Makes room for what a lane is about to hold, in one move, if its budget holds that.
template <class C>
void expect(Memory<C>& memory, LaneRef<C> const& ref, LadderSize<C> const& size) noexcept {
  if (size.bytes(*ref.geometry) <= ladder_room(ref, ref.lane->budget)) {
    memory.grow_arena(ref, size.blocks(*ref.geometry));
  }
}

/// @brief Granules more that the lane's budget holds at a compact level, beside all others. Rows
/// that sink free bytes row by row and take them block by block.
template <class C>
int free_slots(LaneRef<C> const& ref, std::size_t level) noexcept {
  if (ref.lane->budget == unlimited) {
    return std::numeric_limits<int>::max();
  }
  Geometry const& g = *ref.geometry;
  ArenaBlocks blocks = ref.needed_blocks();
  blocks[arena_digests] = ref.lane->rows / C::Digest::group_rows;
  int const most = g.arena.most_blocks(blocks, arena_pool(level),
                                       g.arena_room(ref.lane->budget, ref.lane->rows));
  return std::max(most * g.slots_per_block - ref.lane->pools[level].slots, 0);
}

/// @brief Exact granules sink: to a compact level, or frozen. Dirty ones are stored first.
///
/// Batch by batch the rows are copied out, their slots given up, and what stays is coded from the
/// copies, so that the two never need room at once.
/// @param slots sorted downwards
/// @param levels [granule]: where each goes, below exact
/// @throws TierError whatever the tier throws; granules not yet stored stay exact
template <class C>
void sink_exact(LaneJob<C> const& job, std::uint32_t const* slots, int count,
                std::uint8_t const* levels) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  Memory<C>& memory = job.context->memory;
  std::array<std::uint32_t, transfer_batch> granules;
  for (int done = 0; done < count;) {
    int const batch = std::min(count - done, transfer_batch);
    store_dirty(ref, job.context->tier, scratch, slots + done, batch);
    for (int i = 0; i < batch; ++i) {
      std::uint32_t const slot = slots[done + i];
      granules[static_cast<std::size_t>(i)] = ref.record(slot).granule;
      std::byte* const copy = scratch.loaded() + static_cast<std::size_t>(i) * g.granule_bytes();
      std::memcpy(copy, ref.k(slot), g.part_bytes);
      std::memcpy(copy + g.part_bytes, ref.v(slot), g.part_bytes);
    }
    for (int i = 0; i < batch; ++i) {
      std::uint32_t const granule = granules[static_cast<std::size_t>(i)];
      auto& state = ref.state(granule);
      state = static_cast<std::uint8_t>(
          (GranuleState::with(state, Fidelity::frozen) | GranuleState::clean) &
          ~GranuleState::forced);
      ref.note_change(granule, job.step());
      release_slot(ref, slots[done + i]);
    }
    auto size = LadderSize<C>::of(ref);
    for (int i = 0; i < batch; ++i) {
      size.add(levels[granules[static_cast<std::size_t>(i)]], 1);
    }
    expect(memory, ref, size);
    for (int i = batch - 1; i >= 0; --i) {  // ascending slots: usually ascending positions
      std::uint32_t const granule = granules[static_cast<std::size_t>(i)];
      int const level = levels[granule];
      ref.lane->frozen += 1;
      if (level == 0 || free_slots(ref, static_cast<std::size_t>(level - 1)) == 0) {
        continue;
      }
      std::byte const* const copy =
          scratch.loaded() + static_cast<std::size_t>(i) * g.granule_bytes();
      push_code(memory, ref, static_cast<std::size_t>(level - 1), granule,
                reinterpret_cast<typename C::Value const*>(copy),
                reinterpret_cast<typename C::Value const*>(copy + g.part_bytes), job.step());
    }
    done += batch;
  }
}

/// @brief Frozen granules rise to a compact level: loaded, coded, and shown to `seen` while their
/// exact rows are at hand. Those that the budget does not hold stay frozen.
/// @param seen called as seen(rows, count): `count` granules, K and V of each one after the other
/// @throws TierError whatever the tier throws; granules not yet loaded stay frozen
template <class C, class Seen>
void raise_compact(LaneJob<C> const& job, std::uint32_t const* granules, int count, int level,
                   Seen&& seen) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  for (int done = 0; done < count;) {
    int const batch = std::min(count - done, transfer_batch);
    for (int i = 0; i < batch; ++i) {
      std::byte* const k = scratch.loaded() + static_cast<std::size_t>(i) * g.granule_bytes();
      ::new (scratch.loads() + i) LoadRequest{
          ref.key(granules[done + i]), {k, g.part_bytes}, {k + g.part_bytes, g.part_bytes}};
    }
    job.context->tier.load({scratch.loads(), static_cast<std::size_t>(batch)});
    pay_transfer(ref, static_cast<std::size_t>(batch) * g.granule_bytes(), ref.lane->moved_in);
    for (int i = 0; i < batch; ++i) {
      std::byte const* const k = scratch.loaded() + static_cast<std::size_t>(i) * g.granule_bytes();
      std::uint32_t const granule = granules[done + i];
      auto& state = ref.state(granule);
      if (free_slots(ref, static_cast<std::size_t>(level - 1)) == 0) {
        state |= GranuleState::carried;
        ref.lane->deferred += 1;
        continue;
      }
      ref.lane->forced -= (state & GranuleState::forced) != 0 ? 1U : 0U;
      state = static_cast<std::uint8_t>(state & ~(GranuleState::forced | GranuleState::carried));
      push_code(job.context->memory, ref, static_cast<std::size_t>(level - 1), granule,
                reinterpret_cast<typename C::Value const*>(k),
                reinterpret_cast<typename C::Value const*>(k + g.part_bytes), job.step());
      ref.lane->thawed += 1;
    }
    seen(scratch.loaded(), batch);
    done += batch;
  }
}

}  // namespace kvfreeze::host
