#pragma once

/// @file
/// @brief One lane of a saved sequence: metadata, codes and rows. What the lane's budget does not
/// hold goes where it would have gone, row by row: never is more resident than the budget.

#include <kvfreeze/host/ladder_moves.hpp>
#include <kvfreeze/host/plan.hpp>
#include <kvfreeze/host/session_state.hpp>
#include <kvfreeze/host/slow_clock.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace kvfreeze::host {

/// What a saved lane says of its slots, and where in its block the codes are.
template <class C>
struct SavedSlots {
  std::vector<Slot<C>> records;
  std::vector<std::uint32_t> sums;  ///< [slot][page]
  std::array<std::span<std::byte const>, most_levels> codes{};
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sleepers;  ///< granule, wake step
};

/// @throws FormatError
inline void require_lane(bool holds, std::uint32_t lane, char const* what) {
  if (!holds) {
    throw FormatError("restore(): lane " + std::to_string(lane) + " has " + what +
                      ", which cannot be");
  }
}

/// Can a granule of this composition be in that state?
template <class C>
bool is_possible(std::uint8_t state) noexcept {
  bool const clean = (state & GranuleState::clean) != 0;
  switch (GranuleState::fidelity(state)) {
    case Fidelity::exact:
      return true;
    case Fidelity::compact:
      return C::has_levels && clean;
    case Fidelity::frozen:
      return !C::discards && clean;
    case Fidelity::asleep:
      return !C::discards && C::sleeps && clean;
    case Fidelity::evicted:
      return C::discards;
  }
  return false;
}

/// @brief Reads a lane's states and metadata; sleepers are awake for the moment.
/// @throws FormatError
template <class C>
void restore_granules(LaneJob<C> const& job, BlockBytes& block, SavedSlots<C>& saved) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  auto const granules = static_cast<std::uint32_t>(ref.granules());
  lane.tile_rows = lane.rows;
  for (std::uint32_t granule = 0; granule < granules; ++granule) {
    if (granule % tile_granules == 0) {
      std::memset(static_cast<void*>(&ref.tile(granule)), 0, sizeof(GranuleTile<C>));
    }
    auto state = block.number<std::uint8_t>();
    require_lane(is_possible<C>(state), ref.index, "a granule of an unknown fidelity");
    std::uint32_t wake = 0;
    ref.state(granule) = state;
    exchange_granule<C>(block, ref, granule, wake);
    Fidelity const fidelity = GranuleState::fidelity(state);
    if (fidelity == Fidelity::asleep) {
      saved.sleepers.emplace_back(granule, wake);
      ref.state(granule) = state = GranuleState::with(state, Fidelity::frozen);
    }
    lane.evicted += fidelity == Fidelity::evicted ? 1 : 0;
    lane.forced += (state & GranuleState::forced) != 0 ? 1U : 0U;
    require_lane((state & GranuleState::forced) == 0 || fidelity == Fidelity::frozen, ref.index,
                 "a forced granule that is not frozen");
  }
}

/// @brief Reads which granules are in which slots, and finds the codes.
/// @throws FormatError
template <class C>
void read_slots(LaneJob<C> const& job, BlockBytes& block, SavedSlots<C>& saved) {
  LaneRef<C> const& ref = job.ref;
  auto const granules = static_cast<std::uint32_t>(ref.granules());
  std::vector<std::uint8_t> found(granules, 0);
  auto const note = [&](std::uint32_t granule, Fidelity fidelity) {
    require_lane(granule < granules && found[granule] == 0 && ref.fidelity(granule) == fidelity,
                 ref.index, "slots that do not fit its granules");
    found[granule] = 1;
  };
  auto const slots = block.number<std::uint32_t>();
  require_lane(slots <= granules, ref.index, "more slots than granules");
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    Slot<C> record;
    exchange(block, record.granule, record.stamp, record.value);
    if constexpr (C::scores_in_slots) {
      block.bytes(&record.score, sizeof record.score);
    }
    if constexpr (C::in_place) {
      require_lane(record.granule == slot, ref.index, "slots that do not fit its granules");
      found[slot] = 1;
    } else {
      note(record.granule, Fidelity::exact);
    }
    saved.records.push_back(record);
    for (int row = 0; C::needs_queries && row < C::page; ++row) {
      saved.sums.push_back(block.number<std::uint32_t>());
    }
  }
  for (std::size_t level = 0; level < C::levels; ++level) {
    auto const codes = block.number<std::uint32_t>();
    require_lane(codes <= granules, ref.index, "more codes than granules");
    std::size_t const each = saved_code_bytes<C>(job.geometry(), level);
    saved.codes[level] = block.take(codes * each);
    for (std::uint32_t i = 0; i < codes; ++i) {
      std::uint32_t granule = 0;
      std::memcpy(&granule, saved.codes[level].data() + i * each, sizeof granule);
      note(granule, Fidelity::compact);
    }
  }
  auto const high = static_cast<std::uint32_t>(ref.open_range().high);
  int owed = 0;
  for (std::uint32_t granule = 0; granule < granules; ++granule) {
    bool const here = ref.fidelity(granule) == Fidelity::exact || C::in_place ||
                      ref.fidelity(granule) == Fidelity::compact;
    require_lane((found[granule] != 0) == here, ref.index, "granules without a slot");
    owed += granule >= high && ref.fidelity(granule) != Fidelity::exact ? 1 : 0;
  }
  require_lane(C::discards || owed == ref.lane->owed, ref.index, "protected rows that are away");
  require_lane(
      job.lane().rows % C::page == 0 || owed > 0 || ref.fidelity(granules - 1) == Fidelity::exact,
      ref.index, "a newest granule that is away");
}

/// @brief Which slots the lane's budget holds: all, or else what the scheduler retains by the
/// scorer's scores; of those, if they are still too many, the ones wanted last.
/// @return a byte for each slot
/// @throws CapacityError if protected rows alone are too many
template <class C>
std::vector<std::uint8_t> choose_slots(LaneJob<C> const& job, SavedSlots<C> const& saved) {
  LaneRef<C> const& ref = job.ref;
  Lane<C> const& lane = job.lane();
  int const count = static_cast<int>(saved.records.size());
  std::vector<std::uint8_t> keep(saved.records.size(), 1);
  if (C::in_place || count <= allowed_granules(ref, lane.budget, lane.rows)) {
    return keep;
  }
  int const allowed = allowed_granules(ref, lane.budget, lane.rows + 1) - 1;  // and the next one
  auto const open = ref.open_range();
  LaneFacts facts = lane_facts(job);
  facts.exact = count;
  facts.allowed = allowed;
  // Not where nothing would be learnt of a detection, nor where scorers look at the rows
  // themselves.
  if constexpr (!C::sleeps && !C::has_levels && !C::rates && !C::lags) {
    Selection const selection =
        as_count(among_open(job.context->scheduler.retain(facts), facts.protected_granules),
                 open.high - open.low);
    std::uint8_t* const flags = job.scratch->flags();
    float* const scores = job.scratch->float_scores();
    std::fill_n(flags, facts.granules, std::uint8_t{0});
    ScoreHistogram histogram;
    int const width = kvfreeze::detail::pooled_rows(job.context->scorer);
    float* const alone = job.scratch->logits();
    std::fill_n(alone, open.high, 0.0F);
    for (Slot<C> const& record : saved.records) {
      if (static_cast<int>(record.granule) >= open.high) {
        continue;
      }
      auto const& state = [&]() -> typename C::Scorer::State const& {
        if constexpr (C::scores_in_slots) {
          return record.score;
        } else {
          return ref.score(record.granule, no_slot);
        }
      }();
      alone[record.granule] =
          job.context->scorer.score(state, recorded_evidence(job, record.granule, record));
    }
    auto const now = static_cast<std::uint16_t>(job.step());
    for (Slot<C> const& record : saved.records) {
      if (!ref.is_open(record.granule, open)) {
        continue;
      }
      bool const recent =
          static_cast<std::uint16_t>(now - record.stamp) < std::max(selection.count, 0);
      bool const wanted = selection.kind == Selection::Kind::all ||
                          (selection.kind == Selection::Kind::recent && recent);
      flags[record.granule] =
          static_cast<std::uint8_t>(Pick::candidate | (wanted ? Pick::wanted : 0));
      float const score = kvfreeze::detail::pooled(
          alone, open.high, static_cast<int>(record.granule), width);  // of one: its own
      scores[record.granule] = score;
      histogram.add(score);
    }
    if (selection.kind != Selection::Kind::all && selection.kind != Selection::Kind::none &&
        selection.kind != Selection::Kind::recent) {
      mark_wanted(selection, histogram, scores, flags, facts.granules, Pick::candidate,
                  Pick::wanted);
    }
    for (std::size_t i = 0; i < keep.size(); ++i) {
      keep[i] = flags[saved.records[i].granule] == Pick::candidate ? 0 : 1;
    }
  }
  std::vector<std::uint32_t> open_slots;
  int kept = 0;
  for (std::uint32_t i = 0; i < keep.size(); ++i) {
    kept += keep[i];
    if (keep[i] != 0 && ref.is_open(saved.records[i].granule, open)) {
      open_slots.push_back(i);
    }
  }
  int const excess = kept - allowed;
  if (excess > static_cast<int>(open_slots.size())) {
    int const least = kept - static_cast<int>(open_slots.size()) + 1;
    std::size_t const needed = lane_bytes<C>(job.geometry(), least, lane.rows + 1);
    throw CapacityError("restore(): Limits::resident_bytes leaves " + std::to_string(lane.budget) +
                            " bytes for a lane that needs " + std::to_string(needed) +
                            " for its sinks, window, pins and newest rows",
                        needed, lane.budget);
  }
  std::sort(open_slots.begin(), open_slots.end(), [&](std::uint32_t a, std::uint32_t b) {
    return eviction_rank(saved.records[a], job.step()) <
           eviction_rank(saved.records[b], job.step());
  });
  for (int i = 0; i < excess; ++i) {
    keep[open_slots[static_cast<std::size_t>(i)]] = 0;
  }
  return keep;
}

/// @brief Reads a block of rows and gives the tier those of granules for which it is to hold a
/// copy.
/// @param granules at most `transfer_batch`, in the order in which they lie in the block
/// @param stored stored(granule)
/// @throws FormatError
/// @throws TierError whatever the tier throws
template <class C, class Stored>
BlockBytes read_rows(LaneJob<C> const& job, BlockReader& in, std::uint32_t const* granules,
                     std::size_t count, Stored&& stored) {
  Geometry const& g = job.geometry();
  BlockBytes rows = in.next(rows_block, count * g.granule_bytes());
  std::size_t stores = 0;
  for (std::size_t i = 0; i < count; ++i) {
    auto const k = rows.take(g.part_bytes);
    auto const v = rows.take(g.part_bytes);
    if (!C::in_place && !C::discards && stored(granules[i])) {
      ::new (job.scratch->stores() + stores++) StoreRequest{job.ref.key(granules[i]), k, v};
    }
  }
  rows.finish();
  if (stores > 0) {
    job.context->tier.store({job.scratch->stores(), stores});
  }
  rows.rewind();
  return rows;
}

/// @brief Brings the rows of the slots, in their order; those not kept are frozen, or gone.
/// @throws as read_rows()
template <class C>
void restore_slots(LaneJob<C> const& job, SavedSlots<C> const& saved,
                   std::vector<std::uint8_t> const& keep, BlockReader& in) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  Memory<C>& memory = job.context->memory;
  memory.grow_rows(ref, static_cast<int>(std::accumulate(keep.begin(), keep.end(), 0)));
  std::array<std::uint32_t, transfer_batch> granules{};
  for (std::size_t first = 0; first < keep.size(); first += granules.size()) {
    std::size_t const count = std::min(keep.size() - first, granules.size());
    for (std::size_t i = 0; i < count; ++i) {
      granules[i] = saved.records[first + i].granule;
      auto& state = ref.state(granules[i]);
      if (keep[first + i] == 0) {
        state = C::discards
                    ? GranuleState::with(state, Fidelity::evicted)
                    : static_cast<std::uint8_t>(GranuleState::with(state, Fidelity::frozen) |
                                                GranuleState::clean);
        lane.evicted += C::discards ? 1 : 0;
        ref.note_change(granules[i], job.step());
      }
    }
    BlockBytes rows = read_rows(job, in, granules.data(), count, [&](std::uint32_t granule) {
      return (ref.state(granule) & GranuleState::clean) != 0;
    });
    for (std::size_t i = 0; i < count; ++i) {
      auto const k = rows.take(g.part_bytes);
      auto const v = rows.take(g.part_bytes);
      if (keep[first + i] == 0) {
        continue;
      }
      Slot<C> const& record = saved.records[first + i];
      std::uint32_t const slot = acquire_slot(memory, ref, record.granule, 0, 0);
      ref.record(slot) = record;
      std::memcpy(ref.k(slot), k.data(), k.size());
      std::memcpy(ref.v(slot), v.data(), v.size());
      if constexpr (C::needs_queries) {
        std::copy_n(saved.sums.data() + (first + i) * static_cast<std::size_t>(C::page), C::page,
                    ref.sums(slot));
      }
      if (C::in_place && ref.fidelity(slot) != Fidelity::exact) {
        lane.exact -= 1;
      }
    }
  }
}

/// Fills the compact levels, in the order of their slots; what the budget does not hold is frozen.
template <class C>
void restore_codes(LaneJob<C> const& job, SavedSlots<C> const& saved) {
  LaneRef<C> const& ref = job.ref;
  Memory<C>& memory = job.context->memory;
  for (std::size_t level = 0; level < C::levels; ++level) {
    std::size_t const each = saved_code_bytes<C>(job.geometry(), level);
    Pool& pool = ref.lane->pools[level];
    bool const consecutive = pool.consecutive;
    auto const count = static_cast<int>(saved.codes[level].size() / each);
    int const held = std::min(count, free_slots(ref, level));
    memory.grow_codes(ref, level, held);
    for (int i = 0; i < count; ++i) {
      std::byte const* from = saved.codes[level].data() + static_cast<std::size_t>(i) * each;
      std::uint32_t granule = 0;
      std::uint16_t stamp = 0;
      std::memcpy(&granule, from, sizeof granule);
      from += sizeof granule;
      std::memcpy(&stamp, from, sizeof stamp);
      from += sizeof stamp;
      auto& state = ref.state(granule);
      if (i >= held) {
        state = GranuleState::with(state, Fidelity::frozen);
        continue;
      }
      auto const slot = static_cast<std::uint32_t>(pool.slots);
      pool.first = slot == 0 ? granule : pool.first;
      pool.consecutive = slot == 0 || (pool.consecutive && granule == pool.first + slot);
      pool.slots += 1;
      ref.code_granule(level, slot) = granule;
      ref.code_stamp(level, slot) = stamp;
      for_code_rows(ref, level, slot, [&](std::byte* row, std::size_t bytes) {
        if (bytes > 0) {
          std::memcpy(row, from, bytes);
        }
        from += bytes;
      });
    }
    pool.consecutive = pool.consecutive && consecutive;
  }
}

/// @brief Brings one lane: metadata, digests, queries, rows, codes.
/// @param saved what it knew
/// @throws FormatError, CapacityError
/// @throws TierError whatever the tier throws
template <class C>
void restore_lane(LaneJob<C> const& job, Lane<C> const& saved, BlockReader& in) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  lane.rows = saved.rows;
  job.scratch->commit(lane.rows);
  std::size_t most = sizeof(std::uint32_t) * (1 + C::levels);
  auto const granules = static_cast<std::size_t>(ref.granules());
  most += granules * (sizeof(GranuleTile<C>) + 64);
  int const groups = C::has_digest ? lane.rows / std::max(C::Digest::group_rows, 1) : 0;
  most += saved_digest_bytes<C>(g, groups);
  most += static_cast<std::size_t>(g.window_queries + 5) *
          (sizeof(std::int32_t) +
           static_cast<std::size_t>(g.lane_queries * g.shape.head_dim) * sizeof(float));
  most += granules * (sizeof(Slot<C>) + static_cast<std::size_t>(C::page) * 4U);
  for (std::size_t level = 0; level < C::levels; ++level) {
    most += granules * saved_code_bytes<C>(g, level);
  }
  BlockBytes block = in.next(lane_block, most);
  SavedSlots<C> slots;
  restore_granules(job, block, slots);
  if constexpr (C::has_digest) {
    job.context->memory.resize_digests(ref, groups);
    block.bytes(ref.digests(), saved_digest_bytes<C>(g, groups));
  }
  exchange_queries(block, job);
  read_slots(job, block, slots);
  block.finish();
  auto const keep = choose_slots(job, slots);
  bool const all = std::find(keep.begin(), keep.end(), std::uint8_t{0}) == keep.end();
  bool const ordered = lane.ordered;
  lane.ordered = true;
  restore_slots(job, slots, keep, in);
  lane.ordered = lane.ordered && (!all || ordered);
  if constexpr (C::has_levels) {
    restore_codes(job, slots);
  }
  if constexpr (!C::in_place && !C::discards) {
    std::vector<std::uint32_t> away;
    std::vector<std::uint8_t> here(granules, 0);
    for (Slot<C> const& record : slots.records) {
      here[record.granule] = 1;
    }
    for (std::uint32_t granule = 0; granule < here.size(); ++granule) {
      if (here[granule] == 0) {
        away.push_back(granule);
      }
    }
    constexpr std::size_t batch = transfer_batch;
    for (std::size_t first = 0; first < away.size(); first += batch) {
      read_rows(job, in, away.data() + first, std::min(away.size() - first, batch),
                [](std::uint32_t) { return true; });
    }
  }
  for (auto const& [granule, wake] : slots.sleepers) {
    fall_asleep(ref, granule, wake);
  }
}

/// Commits the blocks that the lane had beside those that it uses, as far as they fit.
template <class C>
void hold_blocks(LaneJob<C> const& job, ArenaBlocks blocks) noexcept {
  Geometry const& g = job.geometry();
  int const most = ceil_div(g.max_granules, g.slots_per_block);
  for (std::int32_t& count : blocks) {
    count = std::clamp(count, 0, most);
  }
  if constexpr (C::has_levels) {
    blocks[arena_digests] = job.lane().groups;
    ArenaBlocks const all = at_least(blocks, job.ref.held_blocks());
    if (g.arena.bytes(all) <= g.arena_room(job.lane().budget, job.lane().rows) &&
        g.arena.bytes(all) <= g.rows_region) {
      job.context->memory.grow_arena(job.ref, blocks);
    }
  } else {
    int const slots = blocks[arena_rows] * g.slots_per_block;
    if (lane_bytes<C>(g, slots, job.lane().rows) <= job.lane().budget) {
      job.context->memory.grow_rows(job.ref, slots);
    }
  }
}

}  // namespace kvfreeze::host
