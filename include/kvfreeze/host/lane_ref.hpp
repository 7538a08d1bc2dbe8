#pragma once

#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/tier/request.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host {

/// @brief Everything that belongs to one lane, by address. Cheap to make; owns nothing.
///
/// On the ladder rows, digests and codes lie in the lane's arena, where they move as it grows and
/// shrinks. So a LaneRef asks the lane where they are, every time; who keeps an address of theirs
/// keeps it no longer than until the next grow_rows(), grow_codes() or resize_digests().
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
  std::byte* base = nullptr;               ///< the lane's arena; where there is none, its blocks
  std::byte* apart_cards = nullptr;        ///< where there is no arena
  std::byte* apart_digests = nullptr;      ///< likewise
  std::byte* tiles = nullptr;              ///< first tile; the next one is `tile_stride` further
  float* ring = nullptr;                   ///< [window_queries][lane_queries][head_dim]
  std::int32_t* ring_positions = nullptr;  ///< [window_queries]
  float* previous = nullptr;               ///< [lane_queries][head_dim]
  float* importance = nullptr;             ///< [KV heads][head_dim], sums of q² by channel
  float* moments = nullptr;                ///< [KV heads], each as in LaneMoments
  std::size_t tile_stride = 0;
  std::uint32_t sequence = 0;
  std::uint32_t index = 0;  ///< within the sequence

  /// Blocks of exact rows.
  [[nodiscard]] std::byte* rows() const noexcept { return segment(arena_rows, base); }

  /// Slot records and query sums, one card to a block.
  [[nodiscard]] std::byte* cards() const noexcept {
    return C::has_levels ? rows() + geometry->cards_within : apart_cards;
  }

  /// [group][KV head], behind the mean values if there are any.
  [[nodiscard]] std::byte* digests() const noexcept {
    return segment(arena_digests, apart_digests);
  }

  /// A compact level's pool.
  [[nodiscard]] std::byte* codes(std::size_t level) const noexcept {
    return segment(arena_pool(level), base);
  }

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
    if constexpr (!C::has_levels && !C::discards) {
      tile(granule).changed[granule % tile_granules] = static_cast<std::uint16_t>(step);
    }
  }

  [[nodiscard]] Timer& timer(std::uint32_t granule) const noexcept
    requires C::sleeps
  {
    return tile(granule).timer[granule % tile_granules];
  }

  /// Score of a granule; of one that is exact, where scores lie in slots.
  /// @param slot of an exact granule, else anything
  [[nodiscard]] typename C::Scorer::State& score(
      std::uint32_t granule, [[maybe_unused]] std::uint32_t slot) const noexcept {
    if constexpr (C::scores_in_slots) {
      return record(slot).score;
    } else if constexpr (C::has_state) {
      return tile(granule).score[granule % tile_granules];
    } else {
      static typename C::Scorer::State none{};
      return none;
    }
  }

  [[nodiscard]] std::byte* block(std::uint32_t slot) const noexcept {
    return rows() + slot / slots_per_block * geometry->block_bytes;
  }

  /// What is known of the slots of the slot's block.
  [[nodiscard]] std::byte* card(std::uint32_t slot) const noexcept {
    return cards() + slot / slots_per_block * geometry->card_stride;
  }

  [[nodiscard]] Value* k(std::uint32_t slot) const noexcept {
    auto const within = slot % slots_per_block;
    return reinterpret_cast<Value*>(block(slot) + within * geometry->part_bytes);
  }

  [[nodiscard]] Value* v(std::uint32_t slot) const noexcept {
    return k(slot) + static_cast<std::ptrdiff_t>(block_rows) * geometry->row_elements;
  }

  [[nodiscard]] Slot<C>& record(std::uint32_t slot) const noexcept {
    return reinterpret_cast<Slot<C>*>(card(slot))[slot % slots_per_block];
  }

  /// Sums of |q.k| over the query window, one for each row of the slot, in units of 2^-12.
  [[nodiscard]] std::uint32_t* sums(std::uint32_t slot) const noexcept {
    return reinterpret_cast<std::uint32_t*>(card(slot) + geometry->sums_offset) +
           slot % slots_per_block * C::page;
  }

  [[nodiscard]] RowBlocks<Value> row_blocks(int head) const noexcept {
    return {rows(), geometry->block_bytes, block_rows, geometry->row_elements,
            head * geometry->shape.head_dim};
  }

  [[nodiscard]] std::byte* digest(int group, int head) const noexcept {
    return digests() + geometry->means_bytes +
           static_cast<std::size_t>(group) * geometry->digest_group_bytes +
           static_cast<std::size_t>(head) * C::Digest::bytes(geometry->shape.head_dim);
  }

  /// Block of a slot of a compact level.
  [[nodiscard]] std::byte* code_block(std::size_t level, std::uint32_t slot) const noexcept {
    return codes(level) + slot / slots_per_block * geometry->pools[level].block_bytes;
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
  [[nodiscard]] float* value_means() const noexcept { return reinterpret_cast<float*>(digests()); }

  /// Blocks that the lane's arena has.
  [[nodiscard]] ArenaBlocks held_blocks() const noexcept {
    ArenaBlocks blocks{lane->groups, lane->blocks};
    for (std::size_t level = 0; level < C::levels; ++level) {
      blocks[arena_pool(level)] = lane->pools[level].blocks;
    }
    return blocks;
  }

  /// Blocks that the lane's granules need.
  [[nodiscard]] ArenaBlocks needed_blocks() const noexcept {
    ArenaBlocks blocks{lane->groups, ceil_div(lane->slots, geometry->slots_per_block)};
    for (std::size_t level = 0; level < C::levels; ++level) {
      blocks[arena_pool(level)] = ceil_div(lane->pools[level].slots, geometry->slots_per_block);
    }
    return blocks;
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

 private:
  [[nodiscard]] std::byte* segment(std::size_t i, std::byte* apart) const noexcept {
    if constexpr (C::has_levels) {
      return base + lane->starts[i];
    } else {
      return apart;
    }
  }
};

}  // namespace kvfreeze::host
