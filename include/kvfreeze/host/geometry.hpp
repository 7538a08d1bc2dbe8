#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/host/composition.hpp>
#include <kvfreeze/host/lane_arena.hpp>
#include <kvfreeze/host/rounding.hpp>
#include <kvfreeze/types.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::host {

inline constexpr int block_rows = 16;     ///< rows of a block: one 4-KiB page at fp16, dim 64
inline constexpr int tile_granules = 64;  ///< granules of a metadata tile

/// @brief One compact level: where things lie in a block of its pool.
///
/// A block holds 16 rows, for each KV head of the lane the lower bits of their keys, then their V
/// codes, then their V scales; then the granules' numbers and stamps.
struct PoolGeometry {
  std::size_t residual_bytes = 0;  ///< of one row and KV head
  std::size_t value_bytes = 0;     ///< of one row and KV head
  std::size_t values_offset = 0;
  std::size_t scales_offset = 0;
  std::size_t granules_offset = 0;
  std::size_t stamps_offset = 0;
  std::size_t block_bytes = 0;
};

/// @brief Sizes that follow from the model's shape, the limits and the composition.
///
/// A lane's exact rows lie in blocks of 16: [K: 16 rows][V: 16 rows], so that attention streams a
/// lane from end to end; what is known of their slots lies apart, in cards of [slot records][query
/// sums], one to a block, so that the clocks stream it without touching the rows.
struct Geometry {
  Shape shape;
  Limits limits;
  int page = 1;  ///< rows of a granule
  int lanes_per_layer = 0;
  int lanes = 0;           ///< of a sequence
  int heads_per_lane = 0;  ///< KV heads of a lane
  int group = 0;           ///< query heads of a KV head
  int lane_queries = 0;    ///< query heads of a lane
  int row_elements = 0;    ///< elements of a row's K, and of its V
  int slots_per_block = 0;
  int max_granules = 0;
  int max_tiles = 0;
  int max_groups = 0;      ///< digest groups of a lane
  int window_queries = 0;  ///< queries kept for Evidence::queries
  float dot_limit = 0.0F;  ///< clamp of |q.k| in nats that keeps a window's sum in 32 bits
  float octaves = 0.0F;    ///< scale * log2(e): q.k times this is a logit in octaves
  std::size_t element_bytes = 0;
  std::size_t part_bytes = 0;   ///< K of a granule; V is as large
  std::size_t sums_offset = 0;  ///< query sums within a card
  std::size_t card_bytes = 0;
  std::size_t block_bytes = 0;
  std::size_t card_stride = 0;   ///< from card to card
  std::size_t cards_within = 0;  ///< where a block's own card begins; 0: cards lie apart
  std::size_t cards_region = 0;
  std::size_t rows_region = 0;         ///< address space of a lane's blocks, or of its arena
  std::size_t digest_group_bytes = 0;  ///< one group, all KV heads of the lane
  std::size_t means_bytes = 0;         ///< mean values of the lane, before its first group
  std::size_t digest_region = 0;
  std::size_t tile_bytes = 0;                   ///< metadata of 64 granules of one lane
  std::array<PoolGeometry, most_levels> pools;  ///< one for each compact level
  ArenaGeometry arena;                          ///< on the ladder

  /// Rows of a lane rounded so that digests may write whole groups.
  [[nodiscard]] int max_tokens_rounded() const noexcept {
    return (limits.max_tokens + 255) / 256 * 256;
  }

  [[nodiscard]] std::size_t granule_bytes() const noexcept { return 2 * part_bytes; }

  [[nodiscard]] int granules(int rows) const noexcept { return ceil_div(rows, page); }

  [[nodiscard]] std::size_t blocks_bytes(int blocks) const noexcept {
    return round_up(static_cast<std::size_t>(blocks) * block_bytes, page_bytes);
  }

  [[nodiscard]] std::size_t cards_bytes(int blocks) const noexcept {
    return cards_within > 0 ? 0
                            : round_up(static_cast<std::size_t>(blocks) * card_bytes, page_bytes);
  }

  /// Committed bytes of a lane that holds `slots` exact granules: rows and cards.
  [[nodiscard]] std::size_t rows_bytes(int slots) const noexcept {
    int const blocks = ceil_div(slots, slots_per_block);
    return blocks_bytes(blocks) + cards_bytes(blocks);
  }

  /// The most blocks whose rows and cards fit `bytes`.
  [[nodiscard]] int blocks_within(std::size_t bytes) const noexcept {
    int blocks = static_cast<int>(bytes / (block_bytes + (cards_within > 0 ? 0 : card_bytes)));
    while (blocks > 0 && blocks_bytes(blocks) + cards_bytes(blocks) > bytes) {
      --blocks;
    }
    return blocks;
  }

  /// Committed digest bytes of a lane that holds `rows` rows.
  [[nodiscard]] std::size_t digest_bytes(int rows, int group_rows) const noexcept {
    return group_rows == 0 ? 0 : groups_bytes(rows / group_rows);
  }

  /// Committed bytes of so many digest groups.
  [[nodiscard]] std::size_t groups_bytes(int groups) const noexcept {
    return groups == 0
               ? 0
               : round_up(means_bytes + static_cast<std::size_t>(groups) * digest_group_bytes,
                          page_bytes);
  }

  /// Metadata of one lane that holds `rows` rows, before the sequence's rounding to pages.
  [[nodiscard]] std::size_t lane_tiles_bytes(int rows) const noexcept {
    return static_cast<std::size_t>(ceil_div(granules(rows), tile_granules)) * tile_bytes;
  }

  /// What of a lane's `bytes` is left to its arena if it holds `rows` rows: whole pages.
  [[nodiscard]] std::size_t arena_room(std::size_t bytes, int rows) const noexcept {
    std::size_t const tiles = lane_tiles_bytes(rows);
    return bytes == unlimited ? unlimited
           : bytes > tiles    ? (bytes - tiles) / page_bytes * page_bytes
                              : 0;
  }

  /// What a plain cache holds for `rows` tokens of one sequence, in bytes.
  [[nodiscard]] std::size_t full_bytes(int rows) const noexcept {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(shape.layers) *
           static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim) *
           2U * element_bytes;
  }
};

/// @throws InvalidArgument naming the field and its value
inline void check_shape(Shape const& shape) {
  auto const reject = [](char const* name, long value, char const* rule) {
    throw InvalidArgument(std::string("Shape::") + name + " is " + std::to_string(value) + ", " +
                          rule);
  };
  if (shape.layers < 1) {
    reject("layers", shape.layers, "must be at least 1");
  }
  if (shape.kv_heads < 1) {
    reject("kv_heads", shape.kv_heads, "must be at least 1");
  }
  if (shape.query_heads < 1 || shape.query_heads % shape.kv_heads != 0) {
    throw InvalidArgument(
        "Shape::query_heads is " + std::to_string(shape.query_heads) +
        ", must be a positive multiple of kv_heads = " + std::to_string(shape.kv_heads));
  }
  if (shape.query_heads / shape.kv_heads > 64) {
    reject("query_heads / kv_heads", shape.query_heads / shape.kv_heads, "must be at most 64");
  }
  if (shape.head_dim < 8 || shape.head_dim > 512 || shape.head_dim % 8 != 0) {
    reject("head_dim", shape.head_dim, "must be a multiple of 8 in [8, 512]");
  }
  if (!std::isfinite(shape.scale) || shape.scale < 0.0F) {
    throw InvalidArgument("Shape::scale is " + std::to_string(shape.scale) +
                          ", must be positive, or 0 for 1/sqrt(head_dim)");
  }
}

/// The same, and the bounds that a composition's layout was compiled with; 0: none.
template <class C>
void check_shape(Shape const& shape) {
  check_shape(shape);
  auto const check = [](char const* name, int value, char const* bound, int most) {
    if (most > 0 && value > most) {
      throw InvalidArgument(std::string("Shape::") + name + " is " + std::to_string(value) +
                            ", must be at most Layout::" + bound + " = " + std::to_string(most));
    }
  };
  check("head_dim", shape.head_dim, "max_head_dim", C::max_head_dim);
  check("query_heads / kv_heads", shape.query_heads / shape.kv_heads, "max_group", C::max_group);
}

/// @throws InvalidArgument naming the field and its value
inline void check_limits(Limits const& limits) {
  auto const reject = [](char const* name, long value, char const* rule) {
    throw InvalidArgument(std::string("Limits::") + name + " is " + std::to_string(value) + ", " +
                          rule);
  };
  if (limits.max_tokens < 1 || limits.max_tokens > (1 << 24)) {
    reject("max_tokens", limits.max_tokens, "must be in [1, 16777216]");
  }
  if (limits.max_sequences < 1 || limits.max_sequences > 65536) {
    reject("max_sequences", limits.max_sequences, "must be in [1, 65536]");
  }
  if (limits.sinks < 0 || limits.sinks > limits.max_tokens) {
    reject("sinks", limits.sinks, "must be in [0, max_tokens]");
  }
  if (limits.window < 1) {
    reject("window", limits.window, "must be at least 1");
  }
  if (limits.parts < 1 || limits.parts > 256) {
    reject("parts", limits.parts, "must be in [1, 256]");
  }
}

/// scale * log2(e): q.k times this is a logit in octaves. The device asks here too: logits are
/// equal to the bit.
inline float octaves_of(Shape const& shape) noexcept {
  float const scale =
      shape.scale > 0.0F ? shape.scale : 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  return scale * 1.44269504088896340736F;
}

/// Clamp of |q.k| in nats that keeps a window's sum, in units of 2^-12, in 32 bits. The device asks
/// here too.
inline float dot_limit(int window_queries, int lane_queries) noexcept {
  return 1048000.0F / static_cast<float>(std::max(window_queries, 1) * lane_queries);
}

/// The block of a compact level.
template <class C>
PoolGeometry make_pool(Geometry const& g, std::size_t level) noexcept {
  auto const heads = static_cast<std::size_t>(g.heads_per_lane);
  auto const slots = static_cast<std::size_t>(g.slots_per_block);
  PoolGeometry pool;
  std::size_t const channels = round_up(static_cast<std::size_t>(g.shape.head_dim), 64);
  pool.residual_bytes = channels * static_cast<std::size_t>(C::residual_bits(level)) / 8U;
  pool.value_bytes = channels * static_cast<std::size_t>(C::CompactRows::value_bits[level]) / 8U;
  std::size_t const rows = heads * static_cast<std::size_t>(block_rows);
  pool.values_offset = rows * pool.residual_bytes;
  pool.scales_offset = pool.values_offset + rows * pool.value_bytes;
  pool.granules_offset = round_up(pool.scales_offset + rows * sizeof(BFloat16), 4);
  pool.stamps_offset = pool.granules_offset + slots * sizeof(std::uint32_t);
  pool.block_bytes =
      round_up(pool.stamps_offset + slots * sizeof(std::uint16_t), ArenaGeometry::alignment);
  return pool;
}

/// @brief The arenas of a cache on the ladder. Their address space holds every granule in every
/// segment: a granule on its way is in two of them.
template <class C>
void make_arena(Geometry& g) noexcept {
  int const most = ceil_div(g.max_granules, g.slots_per_block);
  ArenaBlocks blocks{g.max_groups, most};
  g.arena.head_bytes = g.means_bytes;
  g.arena.block_bytes[arena_digests] = g.digest_group_bytes;
  g.arena.block_bytes[arena_rows] = g.block_bytes;
  for (std::size_t level = 0; level < C::levels; ++level) {
    g.pools[level] = make_pool<C>(g, level);
    g.arena.block_bytes[arena_pool(level)] = g.pools[level].block_bytes;
    blocks[arena_pool(level)] = most;
  }
  g.rows_region = g.arena.bytes(blocks);
  g.digest_region = 0;
}

/// @brief All sizes of a cache.
/// @throws InvalidArgument for a shape or limits out of range
template <class C>
Geometry make_geometry(Shape const& shape, Limits const& limits, typename C::Scorer const& scorer,
                       std::size_t slot_bytes, std::size_t tile_bytes) {
  check_shape<C>(shape);
  check_limits(limits);
  bool const by_layer = C::Layout::grouping == Grouping::layer;
  Geometry g;
  g.shape = shape;
  g.limits = limits;
  g.page = C::page;
  g.lanes_per_layer = by_layer ? 1 : shape.kv_heads;
  g.lanes = shape.layers * g.lanes_per_layer;
  g.heads_per_lane = by_layer ? shape.kv_heads : 1;
  g.group = shape.query_heads / shape.kv_heads;
  g.lane_queries = g.heads_per_lane * g.group;
  g.row_elements = g.heads_per_lane * shape.head_dim;
  g.slots_per_block = block_rows / C::page;
  g.max_granules = ceil_div(limits.max_tokens, C::page);
  g.max_tiles = ceil_div(g.max_granules, tile_granules);
  g.window_queries = kvfreeze::detail::query_window(scorer);
  g.octaves = octaves_of(shape);
  g.dot_limit = dot_limit(g.window_queries, g.lane_queries);
  g.element_bytes = sizeof(typename C::Value);
  std::size_t const row_bytes = static_cast<std::size_t>(g.row_elements) * g.element_bytes;
  g.part_bytes = row_bytes * static_cast<std::size_t>(C::page);
  g.block_bytes = 2 * static_cast<std::size_t>(block_rows) * row_bytes;
  g.sums_offset = slot_bytes * static_cast<std::size_t>(g.slots_per_block);
  g.card_bytes = g.sums_offset + (C::needs_queries ? block_rows * sizeof(std::uint32_t) : 0);
  g.card_stride = g.card_bytes;
  if constexpr (C::has_levels) {  // few blocks: pages of their own would be mostly empty
    g.cards_within = g.block_bytes;
    g.block_bytes += round_up(g.card_bytes, ArenaGeometry::alignment);
    g.card_stride = g.block_bytes;
  }
  int const max_blocks = ceil_div(g.max_granules, g.slots_per_block);
  g.rows_region = g.blocks_bytes(max_blocks);
  g.cards_region = g.cards_bytes(max_blocks);
  if constexpr (C::has_digest) {
    g.max_groups = limits.max_tokens / C::Digest::group_rows;
    g.digest_group_bytes =
        C::Digest::bytes(shape.head_dim) * static_cast<std::size_t>(g.heads_per_lane);
    if constexpr (C::has_levels) {
      g.means_bytes = round_up(static_cast<std::size_t>(g.row_elements) * sizeof(float), 64);
    }
    g.digest_region = g.digest_bytes(limits.max_tokens, C::Digest::group_rows);
  }
  g.tile_bytes = tile_bytes;
  if constexpr (C::has_levels) {
    make_arena<C>(g);
  }
  return g;
}

}  // namespace kvfreeze::host
