#pragma once

#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/lane_ref.hpp>
#include <kvfreeze/host/scratch.hpp>
#include <kvfreeze/host/virtual_memory.hpp>
#include <kvfreeze/report.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace kvfreeze::host {

/// @brief Address space of a cache: reserved once, committed by whole pages, counted to the byte.
template <class C>
class Memory {
 public:
  using Tile = GranuleTile<C>;

  Memory(Shape const& shape, Limits const& limits, typename C::Scorer const& scorer)
      : geometry_(make_geometry<C>(shape, limits, scorer, sizeof(Slot<C>), sizeof(Tile))) {
    auto const sequences = static_cast<std::size_t>(limits.max_sequences);
    auto const lanes = static_cast<std::size_t>(geometry_.lanes);
    auto const floats = static_cast<std::size_t>(geometry_.lane_queries) *
                        static_cast<std::size_t>(shape.head_dim) * sizeof(float);
    lanes_region_ = round_up(lanes * sizeof(Lane<C>), page_bytes);
    tiles_region_ =
        round_up(lanes * static_cast<std::size_t>(geometry_.max_tiles) * sizeof(Tile), page_bytes);
    auto const window = static_cast<std::size_t>(geometry_.window_queries);
    ring_floats_ = floats / sizeof(float) * window;
    ring_positions_ = window;
    previous_floats_ = C::needs_cosine ? floats / sizeof(float) : 0;
    auto const width = static_cast<std::size_t>(geometry_.row_elements);
    importance_floats_ = C::weighs ? width : 0;
    moment_floats_ = C::rates ? width + 2 * floats / sizeof(float) : 0;
    queries_region_ = round_up(lanes * lane_floats() * sizeof(float), page_bytes);
    headers_ = VirtualMemory::reserve(sequences * lanes_region_);
    tiles_ = VirtualMemory::reserve(sequences * tiles_region_);
    rows_ = VirtualMemory::reserve(sequences * lanes * geometry_.rows_region);
    cards_ = VirtualMemory::reserve(sequences * lanes * geometry_.cards_region);
    digests_ = VirtualMemory::reserve(sequences * lanes * geometry_.digest_region);
    queries_ = VirtualMemory::reserve(sequences * queries_region_);
    scratch_.reserve(static_cast<std::size_t>(limits.parts));
    int fold_units = 0;
    if constexpr (C::refines) {
      fold_units = C::Digest::units(shape.head_dim);
    }
    for (int i = 0; i < limits.parts; ++i) {
      scratch_.emplace_back(geometry_, C::Digest::group_rows, C::has_levels ? C::levels + 1 : 0,
                            fold_units);
      scratch_.back().commit(1);
    }
  }

  [[nodiscard]] Geometry const& geometry() const noexcept { return geometry_; }

  /// Sets `Limits::resident_bytes`; who holds more has to give way.
  void limit(std::size_t resident_bytes) noexcept {
    geometry_.limits.resident_bytes = resident_bytes;
  }

  [[nodiscard]] Scratch& scratch(int part) noexcept {
    return scratch_[static_cast<std::size_t>(part)];
  }

  /// Gives back what only chunks of several tokens need.
  void release_prefill() noexcept {
    for (Scratch& scratch : scratch_) {
      scratch.release_prefill();
    }
  }

  /// What went wrong on the parts' fast clocks since it was asked last; the first of them.
  [[nodiscard]] std::exception_ptr take_failure() noexcept {
    std::exception_ptr first;
    for (Scratch& scratch : scratch_) {
      first = first ? first : scratch.failure;
      scratch.failure = nullptr;
    }
    return first;
  }

  [[nodiscard]] Scratch const& scratch(int part) const noexcept {
    return scratch_[static_cast<std::size_t>(part)];
  }

  [[nodiscard]] LaneRef<C> lane(std::uint32_t sequence, std::uint32_t index) const noexcept {
    auto const lanes = static_cast<std::size_t>(geometry_.lanes);
    std::size_t const number = sequence * lanes + index;
    LaneRef<C> ref;
    ref.geometry = &geometry_;
    ref.lane = reinterpret_cast<Lane<C>*>(headers_.data() + sequence * lanes_region_) + index;
    ref.base = rows_.data() + number * geometry_.rows_region;
    ref.apart_cards = cards_.data() + number * geometry_.cards_region;
    ref.apart_digests = digests_.data() + number * geometry_.digest_region;
    ref.tiles = tiles_.data() + sequence * tiles_region_ + index * sizeof(Tile);
    auto* const queries = reinterpret_cast<float*>(queries_.data() + sequence * queries_region_) +
                          index * lane_floats();
    ref.ring = queries;
    ref.previous = queries + ring_floats_;
    ref.importance = ref.previous + previous_floats_;
    ref.moments = ref.importance + importance_floats_;
    ref.ring_positions = reinterpret_cast<std::int32_t*>(ref.moments + moment_floats_);
    ref.tile_stride = lanes * sizeof(Tile);
    ref.sequence = sequence;
    ref.index = index;
    return ref;
  }

  /// Commits and initialises what a sequence holds before its first row.
  void open(std::uint32_t sequence) noexcept {
    touch_from(headers_.data() + sequence * lanes_region_, 0, lanes_region_);
    touch_from(queries_.data() + sequence * queries_region_, 0, queries_region_);
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(geometry_.lanes); ++i) {
      auto* const lane = ::new (static_cast<void*>(this->lane(sequence, i).lane)) Lane<C>();
      lane->wheel.fill(no_granule);
      lane->tail.fill(no_slot);
    }
  }

  /// @brief Makes a sequence, opened and empty, a copy of another one, page by page: what is
  /// resident moves as rows come and go, so no page can serve two sequences.
  void copy(std::uint32_t from, std::uint32_t to) noexcept {
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(geometry_.lanes); ++i) {
      LaneRef<C> const source = lane(from, i);
      LaneRef<C> const target = lane(to, i);
      *target.lane = *source.lane;
      auto const granules = static_cast<std::uint32_t>(source.granules());
      for (std::uint32_t granule = 0; granule < granules; granule += tile_granules) {
        target.tile(granule) = source.tile(granule);
      }
      if constexpr (C::has_levels) {
        std::copy_n(source.base, geometry_.arena.bytes(source.held_blocks()), target.base);
      } else {
        std::copy_n(source.base, geometry_.blocks_bytes(source.lane->blocks), target.base);
        std::copy_n(source.apart_cards, geometry_.cards_bytes(source.lane->blocks),
                    target.apart_cards);
        std::copy_n(source.apart_digests, geometry_.groups_bytes(source.lane->groups),
                    target.apart_digests);
      }
    }
    std::copy_n(queries_.data() + from * queries_region_, queries_region_,
                queries_.data() + to * queries_region_);
  }

  /// Gives everything of a sequence back.
  void close(std::uint32_t sequence) noexcept {
    auto const lanes = static_cast<std::size_t>(geometry_.lanes);
    headers_.release(sequence * lanes_region_, lanes_region_);
    tiles_.release(sequence * tiles_region_, tiles_region_);
    queries_.release(sequence * queries_region_, queries_region_);
    rows_.release(sequence * lanes * geometry_.rows_region, lanes * geometry_.rows_region);
    cards_.release(sequence * lanes * geometry_.cards_region, lanes * geometry_.cards_region);
    digests_.release(sequence * lanes * geometry_.digest_region, lanes * geometry_.digest_region);
  }

  /// Makes room for `slots` granules of a lane.
  void grow_rows(LaneRef<C> const& ref, int slots) noexcept {
    int const blocks = ceil_div(slots, geometry_.slots_per_block);
    if constexpr (C::has_levels) {
      ArenaBlocks most{};
      most[arena_rows] = blocks;
      grow_arena(ref, most);
    } else if (blocks > ref.lane->blocks) {
      Geometry const& g = geometry_;
      touch_from(ref.base, g.blocks_bytes(ref.lane->blocks), g.blocks_bytes(blocks));
      touch_from(ref.apart_cards, g.cards_bytes(ref.lane->blocks), g.cards_bytes(blocks));
      ref.lane->blocks = blocks;
    }
  }

  /// Gives the blocks of a lane back that `slots` granules do not need.
  void shrink_rows(LaneRef<C> const& ref, int slots) noexcept {
    int const blocks = ceil_div(slots, geometry_.slots_per_block);
    if (blocks < ref.lane->blocks) {
      Geometry const& g = geometry_;
      release_from(rows_, ref.base, g.blocks_bytes(blocks), g.blocks_bytes(ref.lane->blocks));
      release_from(cards_, ref.apart_cards, g.cards_bytes(blocks), g.cards_bytes(ref.lane->blocks));
      ref.lane->blocks = blocks;
    }
  }

  /// Makes room for `slots` granules at a compact level.
  void grow_codes(LaneRef<C> const& ref, std::size_t level, int slots) noexcept {
    ArenaBlocks most{};
    most[arena_pool(level)] = ceil_div(slots, geometry_.slots_per_block);
    grow_arena(ref, most);
  }

  /// @brief Makes sure that the segments of a lane's arena have at least so many blocks.
  ///
  /// Before another page is committed, what is idle gives way if there is much of it, or if the
  /// lane's budget does not hold both.
  void grow_arena(LaneRef<C> const& ref, ArenaBlocks const& blocks) noexcept {
    ArenaGeometry const& arena = geometry_.arena;
    ArenaBlocks const held = ref.held_blocks();
    ArenaBlocks const wanted = at_least(held, blocks);
    if (wanted == held) {
      return;
    }
    ArenaBlocks const needed = at_least(ref.needed_blocks(), blocks);
    bool const fits = arena.bytes(wanted) <= geometry_.arena_room(ref.lane->budget, ref.lane->rows);
    bool const commits = arena.bytes(wanted) > arena.bytes(held);
    resize_arena(ref, held,
                 commits && (!fits || arena.is_loose(wanted, needed, ArenaGeometry::little))
                     ? needed
                     : wanted);
  }

  /// Gives back what a lane's arena does not need, if it is more than that part of what it does.
  void shrink_arena(LaneRef<C> const& ref, double part) noexcept {
    ArenaGeometry const& arena = geometry_.arena;
    ArenaBlocks const held = ref.held_blocks();
    ArenaBlocks const needed = ref.needed_blocks();
    if (arena.is_loose(held, needed, part)) {
      resize_arena(ref, held, needed);
    }
  }

  /// Commits digest pages for `groups` groups; what is beyond goes back.
  void resize_digests(LaneRef<C> const& ref, int groups) noexcept {
    if constexpr (C::has_levels) {
      ArenaBlocks const held = ref.held_blocks();
      ArenaBlocks blocks{groups};
      if (groups > ref.lane->groups) {
        grow_arena(ref, blocks);
      } else if (groups < ref.lane->groups) {
        blocks = held;
        blocks[arena_digests] = groups;
        resize_arena(ref, held, blocks);
      }
    } else {
      std::size_t const old = geometry_.groups_bytes(ref.lane->groups);
      std::size_t const now = geometry_.groups_bytes(groups);
      if (now > old) {
        touch_from(ref.apart_digests, old, now);
      } else if (now < old) {
        release_from(digests_, ref.apart_digests, now, old);
      }
      ref.lane->groups = groups;
    }
  }

  /// Metadata pages of a sequence whose lanes hold at most `rows` rows.
  [[nodiscard]] std::size_t tiles_bytes(int rows) const noexcept {
    return round_up(static_cast<std::size_t>(geometry_.lanes) * geometry_.lane_tiles_bytes(rows),
                    page_bytes);
  }

  /// Gives the metadata pages of a sequence back that `rows` rows do not need.
  void shrink_tiles(std::uint32_t sequence, int rows) noexcept {
    int old_rows = 0;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(geometry_.lanes); ++i) {
      std::int32_t& lane_rows = lane(sequence, i).lane->tile_rows;
      old_rows = std::max(old_rows, lane_rows);
      lane_rows = std::min(lane_rows, rows);
    }
    std::size_t const kept = tiles_bytes(rows);
    std::size_t const held = tiles_bytes(old_rows);
    if (kept < held) {
      tiles_.release(sequence * tiles_region_ + kept, held - kept);
    }
  }

  /// Bytes of an open sequence that do not depend on its length.
  [[nodiscard]] std::size_t fixed_bytes() const noexcept { return lanes_region_; }

  [[nodiscard]] std::size_t query_bytes() const noexcept { return queries_region_; }

  /// Work space of all parts, at this moment or for lanes of `rows` rows.
  [[nodiscard]] std::size_t scratch_bytes() const noexcept {
    std::size_t bytes = 0;
    for (Scratch const& scratch : scratch_) {
      bytes += scratch.bytes();
    }
    return bytes;
  }

  [[nodiscard]] std::size_t scratch_bytes(int rows) const noexcept {
    std::size_t bytes = 0;
    for (Scratch const& scratch : scratch_) {
      bytes += scratch.bytes(rows);
    }
    return bytes;
  }

  /// Adds an open sequence's committed bytes to a ledger.
  void count(std::uint32_t sequence, Ledger& ledger) const noexcept {
    int rows = 0;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(geometry_.lanes); ++i) {
      LaneRef<C> const ref = lane(sequence, i);
      rows = std::max(rows, ref.lane->tile_rows);
      if constexpr (C::has_levels) {
        count_arena(ref.held_blocks(), ledger);
      } else {
        ledger.rows += geometry_.blocks_bytes(ref.lane->blocks);
        ledger.metadata += geometry_.cards_bytes(ref.lane->blocks);
        ledger.digests += geometry_.groups_bytes(ref.lane->groups);
      }
    }
    ledger.metadata += tiles_bytes(rows) + lanes_region_;
    ledger.scratch += queries_region_;
  }

  /// The regions, for tests that ask the system what is committed.
  struct Regions {
    VirtualMemory const* rows;  ///< on the ladder whole arenas: digests and codes too
    VirtualMemory const* cards;
    VirtualMemory const* digests;
    VirtualMemory const* tiles;
    VirtualMemory const* headers;
    VirtualMemory const* queries;
  };

  [[nodiscard]] Regions regions() const noexcept {
    return {&rows_, &cards_, &digests_, &tiles_, &headers_, &queries_};
  }

 private:
  /// Floats of a lane in the queries' region; positions count as such.
  [[nodiscard]] std::size_t lane_floats() const noexcept {
    return ring_floats_ + previous_floats_ + importance_floats_ + moment_floats_ + ring_positions_;
  }

  /// Lays a lane's arena out anew and gives back what lies behind its end.
  void resize_arena(LaneRef<C> const& ref, ArenaBlocks const& from,
                    ArenaBlocks const& to) noexcept {
    ArenaGeometry const& arena = geometry_.arena;
    lay_out(arena, ref.base, from, to);
    release_from(rows_, ref.base, arena.bytes(to), std::max(arena.bytes(from), arena.bytes(to)));
    ref.lane->starts = ArenaStarts::of(arena, to);
    ref.lane->groups = to[arena_digests];
    ref.lane->blocks = to[arena_rows];
    for (std::size_t level = 0; level < C::levels; ++level) {
      ref.lane->pools[level].blocks = to[arena_pool(level)];
    }
  }

  /// Adds an arena's bytes to a ledger; what its last page leaves over is metadata.
  void count_arena(ArenaBlocks const& blocks, Ledger& ledger) const noexcept {
    ArenaGeometry const& arena = geometry_.arena;
    std::size_t const digests = arena.segment_bytes(arena_digests, blocks[arena_digests]);
    std::size_t const rows = arena.segment_bytes(arena_rows, blocks[arena_rows]);
    std::size_t const packed = arena.packed_bytes(blocks);
    ledger.digests += digests;
    ledger.rows += rows;
    ledger.codes += packed - digests - rows;
    ledger.metadata += arena.bytes(blocks) - packed;
  }

  // A write commits the page now, so that the ledger is what the system charges.
  static void touch_from(std::byte* begin, std::size_t from, std::size_t to) noexcept {
    for (std::size_t i = from; i < to; i += page_bytes) {
      begin[i] = std::byte{0};
    }
  }

  static void release_from(VirtualMemory& memory, std::byte const* begin, std::size_t from,
                           std::size_t to) noexcept {
    memory.release(static_cast<std::size_t>(begin - memory.data()) + from, to - from);
  }

  Geometry geometry_;
  VirtualMemory headers_, tiles_, rows_, cards_, digests_, queries_;
  std::vector<Scratch> scratch_;
  std::size_t lanes_region_ = 0;
  std::size_t tiles_region_ = 0;
  std::size_t queries_region_ = 0;
  std::size_t ring_floats_ = 0;
  std::size_t previous_floats_ = 0;
  std::size_t importance_floats_ = 0;
  std::size_t moment_floats_ = 0;
  std::size_t ring_positions_ = 0;
};

}  // namespace kvfreeze::host
