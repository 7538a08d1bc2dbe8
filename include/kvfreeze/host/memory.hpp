#pragma once

#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/host/scratch.hpp>
#include <kvfreeze/host/virtual_memory.hpp>
#include <kvfreeze/report.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace kvfreeze::host {

/// @brief Everything that belongs to one lane, by address. Cheap to make; owns nothing.
template <class C>
struct LaneRef {
  using Value = typename C::Value;
  using Tile = GranuleTile<C>;

  /// Granules [low, high) may freeze unless they are pinned.
  struct Open {
    int low;
    int high;
  };

  static constexpr std::uint32_t slots_per_block = block_rows / C::page;

  Geometry const* geometry = nullptr;
  Lane<C>* lane = nullptr;
  std::byte* rows = nullptr;     ///< blocks
  std::byte* cards = nullptr;    ///< slot records and query sums, one card to a block
  std::byte* digests = nullptr;  ///< [group][KV head]
  std::array<std::byte*, most_levels> codes{};  ///< pools of compact rows, by level
  std::byte* tiles = nullptr;              ///< first tile; the next one is `tile_stride` further
  float* ring = nullptr;                   ///< [window_queries][lane_queries][head_dim]
  std::int32_t* ring_positions = nullptr;  ///< [window_queries]
  float* previous = nullptr;               ///< [lane_queries][head_dim]
  float* importance = nullptr;             ///< [KV heads][head_dim], sums of q² by channel
  std::size_t tile_stride = 0;
  std::uint32_t sequence = 0;
  std::uint32_t index = 0;  ///< within the sequence

  [[nodiscard]] Tile& tile(std::uint32_t granule) const noexcept {
    return *reinterpret_cast<Tile*>(tiles + granule / tile_granules * tile_stride);
  }

  [[nodiscard]] std::uint8_t& state(std::uint32_t granule) const noexcept {
    return tile(granule).state[granule % tile_granules];
  }

  [[nodiscard]] Fidelity fidelity(std::uint32_t granule) const noexcept {
    return GranuleState::fidelity(state(granule));
  }

  /// Notes that a granule freezes.
  void note_change(std::uint32_t granule, std::uint32_t step) const noexcept {
    if constexpr (!C::has_levels) {
      tile(granule).changed[granule % tile_granules] = static_cast<std::uint16_t>(step);
    }
  }

  [[nodiscard]] Timer& timer(std::uint32_t granule) const noexcept
    requires C::sleeps
  {
    return tile(granule).timer[granule % tile_granules];
  }

  [[nodiscard]] typename C::Scorer::State& score(std::uint32_t granule) const noexcept {
    if constexpr (C::has_state) {
      return tile(granule).score[granule % tile_granules];
    } else {
      static typename C::Scorer::State none{};
      return none;
    }
  }

  [[nodiscard]] std::byte* block(std::uint32_t slot) const noexcept {
    return rows + slot / slots_per_block * geometry->block_bytes;
  }

  /// What is known of the slots of the slot's block.
  [[nodiscard]] std::byte* card(std::uint32_t slot) const noexcept {
    return cards + slot / slots_per_block * geometry->card_stride;
  }

  [[nodiscard]] Value* k(std::uint32_t slot) const noexcept {
    auto const within = slot % slots_per_block;
    return reinterpret_cast<Value*>(block(slot) + within * geometry->part_bytes);
  }

  [[nodiscard]] Value* v(std::uint32_t slot) const noexcept {
    return k(slot) + static_cast<std::ptrdiff_t>(block_rows) * geometry->row_elements;
  }

  [[nodiscard]] SlotRecord& record(std::uint32_t slot) const noexcept {
    return reinterpret_cast<SlotRecord*>(card(slot))[slot % slots_per_block];
  }

  /// Sums of |q.k| over the query window, one for each row of the slot, in units of 2^-12.
  [[nodiscard]] std::uint32_t* sums(std::uint32_t slot) const noexcept {
    return reinterpret_cast<std::uint32_t*>(card(slot) + geometry->sums_offset) +
           slot % slots_per_block * C::page;
  }

  [[nodiscard]] RowBlocks<Value> row_blocks(int head) const noexcept {
    return {rows, geometry->block_bytes, block_rows, geometry->row_elements,
            head * geometry->shape.head_dim};
  }

  [[nodiscard]] std::byte* digest(int group, int head) const noexcept {
    return digests + geometry->means_bytes +
           static_cast<std::size_t>(group) * geometry->digest_group_bytes +
           static_cast<std::size_t>(head) * C::Digest::bytes(geometry->shape.head_dim);
  }

  /// Block of a slot of a compact level.
  [[nodiscard]] std::byte* code_block(std::size_t level, std::uint32_t slot) const noexcept {
    return codes[level] + slot / slots_per_block * geometry->pools[level].block_bytes;
  }

  /// Granule in a slot of a compact level.
  [[nodiscard]] std::uint32_t& code_granule(std::size_t level, std::uint32_t slot) const noexcept {
    return reinterpret_cast<std::uint32_t*>(
        code_block(level, slot) + geometry->pools[level].granules_offset)[slot % slots_per_block];
  }

  /// Low half of the step that needed the slot's granule at its level last.
  [[nodiscard]] std::uint16_t& code_stamp(std::size_t level, std::uint32_t slot) const noexcept {
    return reinterpret_cast<std::uint16_t*>(
        code_block(level, slot) + geometry->pools[level].stamps_offset)[slot % slots_per_block];
  }

  /// Compact granules of all levels.
  [[nodiscard]] int compact() const noexcept {
    int sum = 0;
    for (std::size_t level = 0; level < C::levels; ++level) {
      sum += lane->pools[level].slots;
    }
    return sum;
  }

  /// Mean value of the lane's first group, [heads][head_dim]: compact values are coded relative to
  /// it, and it stands in for the values of rows that are not here.
  [[nodiscard]] float* value_means() const noexcept { return reinterpret_cast<float*>(digests); }

  /// Committed bytes of the pools.
  [[nodiscard]] std::size_t codes_bytes() const noexcept {
    std::size_t bytes = 0;
    for (std::size_t level = 0; level < C::levels; ++level) {
      bytes += geometry->pools[level].bytes(lane->pools[level].blocks);
    }
    return bytes;
  }

  [[nodiscard]] int granules() const noexcept { return geometry->granules(lane->rows); }

  /// First granule whose keys are not in a digest.
  [[nodiscard]] int tail_begin() const noexcept {
    if constexpr (C::has_digest) {
      return lane->groups * C::tail_granules;
    } else {
      return std::max(granules() - 1, 0);
    }
  }

  [[nodiscard]] Open open_range() const noexcept {
    int const low = ceil_div(geometry->limits.sinks, geometry->page);
    int const high =
        std::min(std::max(lane->rows - geometry->limits.window, 0) / geometry->page, tail_begin());
    return {std::min(low, high), high};
  }

  [[nodiscard]] bool is_open(std::uint32_t granule, Open const& open) const noexcept {
    return static_cast<int>(granule) >= open.low && static_cast<int>(granule) < open.high &&
           (state(granule) & GranuleState::pinned) == 0;
  }

  [[nodiscard]] int rows_of(std::uint32_t granule) const noexcept {
    return std::min(geometry->page, lane->rows - static_cast<int>(granule) * geometry->page);
  }

  [[nodiscard]] TierKey key(std::uint32_t granule) const noexcept {
    return {sequence, index, granule};
  }

  /// Calls f(slot, granule) for each exact granule, in slot order.
  template <class F>
  void for_each_exact(F&& f) const {
    for (std::uint32_t slot = 0; slot < static_cast<std::uint32_t>(lane->slots); ++slot) {
      if constexpr (C::in_place) {
        if (fidelity(slot) == Fidelity::exact) {
          f(slot, slot);
        }
      } else {
        f(slot, record(slot).granule);
      }
    }
  }

  /// Granule -> slot of the exact granules of [first, last); the others get `no_slot`.
  void map_slots(std::uint32_t first, std::uint32_t last, std::uint32_t* map) const {
    std::fill(map, map + (last - first), no_slot);
    for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      if (granule >= first && granule < last) {
        map[granule - first] = slot;
      }
    });
  }
};

/// @brief Address space of a cache: reserved once, committed by whole pages, counted to the byte.
template <class C>
class Memory {
 public:
  using Tile = GranuleTile<C>;

  Memory(Shape const& shape, Limits const& limits, typename C::Scorer const& scorer)
      : geometry_(make_geometry<C>(shape, limits, scorer, sizeof(SlotRecord), sizeof(Tile))) {
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
    importance_floats_ = C::weighs ? static_cast<std::size_t>(geometry_.row_elements) : 0;
    queries_region_ = round_up(lanes * lane_floats() * sizeof(float), page_bytes);
    headers_ = VirtualMemory::reserve(sequences * lanes_region_);
    tiles_ = VirtualMemory::reserve(sequences * tiles_region_);
    rows_ = VirtualMemory::reserve(sequences * lanes * geometry_.rows_region);
    cards_ = VirtualMemory::reserve(sequences * lanes * geometry_.cards_region);
    digests_ = VirtualMemory::reserve(sequences * lanes * geometry_.digest_region);
    queries_ = VirtualMemory::reserve(sequences * queries_region_);
    for (std::size_t level = 0; level < C::levels; ++level) {
      codes_[level] = VirtualMemory::reserve(sequences * lanes * geometry_.pools[level].region);
    }
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

  [[nodiscard]] Scratch& scratch(int part) noexcept {
    return scratch_[static_cast<std::size_t>(part)];
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
    ref.rows = rows_.data() + number * geometry_.rows_region;
    ref.cards = geometry_.cards_within > 0 ? ref.rows + geometry_.cards_within
                                           : cards_.data() + number * geometry_.cards_region;
    ref.digests = digests_.data() + number * geometry_.digest_region;
    for (std::size_t level = 0; level < C::levels; ++level) {
      ref.codes[level] = codes_[level].data() + number * geometry_.pools[level].region;
    }
    ref.tiles = tiles_.data() + sequence * tiles_region_ + index * sizeof(Tile);
    auto* const queries = reinterpret_cast<float*>(queries_.data() + sequence * queries_region_) +
                          index * lane_floats();
    ref.ring = queries;
    ref.previous = queries + ring_floats_;
    ref.importance = ref.previous + previous_floats_;
    ref.ring_positions = reinterpret_cast<std::int32_t*>(ref.importance + importance_floats_);
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

  /// Gives everything of a sequence back.
  void close(std::uint32_t sequence) noexcept {
    auto const lanes = static_cast<std::size_t>(geometry_.lanes);
    for (std::size_t level = 0; level < C::levels; ++level) {
      std::size_t const region = lanes * geometry_.pools[level].region;
      codes_[level].release(sequence * region, region);
    }
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
    if (blocks > ref.lane->blocks) {
      Geometry const& g = geometry_;
      touch_from(ref.rows, g.blocks_bytes(ref.lane->blocks), g.blocks_bytes(blocks));
      touch_from(ref.cards, g.cards_bytes(ref.lane->blocks), g.cards_bytes(blocks));
      ref.lane->blocks = blocks;
    }
  }

  /// Gives the blocks of a lane back that `slots` granules do not need.
  void shrink_rows(LaneRef<C> const& ref, int slots) noexcept {
    int const blocks = ceil_div(slots, geometry_.slots_per_block);
    if (blocks < ref.lane->blocks) {
      Geometry const& g = geometry_;
      release_from(rows_, ref.rows, g.blocks_bytes(blocks), g.blocks_bytes(ref.lane->blocks));
      if (g.cards_within == 0) {
        release_from(cards_, ref.cards, g.cards_bytes(blocks), g.cards_bytes(ref.lane->blocks));
      }
      ref.lane->blocks = blocks;
    }
  }

  /// Makes room for `slots` granules at a compact level.
  void grow_codes(LaneRef<C> const& ref, std::size_t level, int slots) noexcept {
    Pool& pool = ref.lane->pools[level];
    int const blocks = ceil_div(slots, geometry_.slots_per_block);
    if (blocks > pool.blocks) {
      PoolGeometry const& g = geometry_.pools[level];
      touch_from(ref.codes[level], g.bytes(pool.blocks), g.bytes(blocks));
      pool.blocks = blocks;
    }
  }

  /// Gives the blocks of a compact level back that its slots do not need.
  void shrink_codes(LaneRef<C> const& ref, std::size_t level) noexcept {
    Pool& pool = ref.lane->pools[level];
    int const blocks = ceil_div(pool.slots, geometry_.slots_per_block);
    if (blocks < pool.blocks) {
      PoolGeometry const& g = geometry_.pools[level];
      release_from(codes_[level], ref.codes[level], g.bytes(blocks), g.bytes(pool.blocks));
      pool.blocks = blocks;
    }
  }

  /// Commits digest pages for `groups` groups; what is beyond goes back.
  void resize_digests(LaneRef<C> const& ref, int groups) noexcept {
    std::size_t const old = geometry_.groups_bytes(ref.lane->groups);
    std::size_t const now = geometry_.groups_bytes(groups);
    if (now > old) {
      touch_from(ref.digests, old, now);
    } else if (now < old) {
      release_from(digests_, ref.digests, now, old);
    }
    ref.lane->groups = groups;
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
      ledger.rows += geometry_.blocks_bytes(ref.lane->blocks);
      ledger.metadata += geometry_.cards_bytes(ref.lane->blocks);
      ledger.digests += geometry_.groups_bytes(ref.lane->groups);
      ledger.codes += ref.codes_bytes();
    }
    ledger.metadata += tiles_bytes(rows) + lanes_region_;
    ledger.scratch += queries_region_;
  }

  /// The regions, for tests that ask the system what is committed.
  struct Regions {
    VirtualMemory const* rows;
    VirtualMemory const* cards;
    VirtualMemory const* digests;
    VirtualMemory const* tiles;
    VirtualMemory const* headers;
    VirtualMemory const* queries;
    std::array<VirtualMemory, most_levels> const* codes;
  };

  [[nodiscard]] Regions regions() const noexcept {
    return {&rows_, &cards_, &digests_, &tiles_, &headers_, &queries_, &codes_};
  }

 private:
  /// Floats of a lane in the queries' region; positions count as such.
  [[nodiscard]] std::size_t lane_floats() const noexcept {
    return ring_floats_ + previous_floats_ + importance_floats_ + ring_positions_;
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
  std::array<VirtualMemory, most_levels> codes_;
  std::vector<Scratch> scratch_;
  std::size_t lanes_region_ = 0;
  std::size_t tiles_region_ = 0;
  std::size_t queries_region_ = 0;
  std::size_t ring_floats_ = 0;
  std::size_t previous_floats_ = 0;
  std::size_t importance_floats_ = 0;
  std::size_t ring_positions_ = 0;
};

}  // namespace kvfreeze::host
