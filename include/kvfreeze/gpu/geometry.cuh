#pragma once

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/composition.cuh>
#include <kvfreeze/gpu/divisor.cuh>
#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

inline constexpr int most_levels = 3;  ///< compact levels, as in Rungs

// Kinds of pages.
inline constexpr int rows_segment = 0;     ///< exact rows and what is known of them
inline constexpr int digests_segment = 1;  ///< digest groups
inline constexpr int segments = 2 + most_levels;

/// The pool of a compact level.
KVFREEZE_HD constexpr int pool_segment(int level) noexcept { return 2 + level; }

/// @brief How things of one kind lie in pages: `per_page` of them on each, nothing across.
struct SegmentGeometry {
  Divisor per_page = 1U;         ///< granules, digest groups, or compact granules on a page
  std::uint32_t first_page = 0;  ///< of the segment in a lane's page table
  std::uint32_t most_pages = 0;  ///< of a lane

  /// Pages that so many things take.
  [[nodiscard]] KVFREEZE_HD constexpr std::uint32_t pages_of(std::uint32_t things) const noexcept {
    return (things + per_page - 1) / per_page;
  }
};

/// @brief A page of a compact level: for each of its rows the lower bits of the key, then V codes,
/// V scales, granules' numbers and stamps, each kind side by side; of the first three those of a
/// KV head after those of another.
struct PoolPage {
  std::uint32_t residual_bytes = 0;  ///< of a row and KV head
  std::uint32_t value_bytes = 0;     ///< of a row and KV head
  std::uint32_t values = 0;          ///< offsets within the page
  std::uint32_t scales = 0;
  std::uint32_t granules = 0;
  std::uint32_t stamps = 0;
};

/// @brief Sizes of a cache on the device, all that kernels need to know. Trivially copyable.
///
/// All lanes share one pool of pages of `page_bytes`. A page holds 16 exact rows, of whole
/// granules: [K: 16 rows][V: 16 rows][slot records], or as many digest groups or compact rows as
/// fit.
struct Geometry {
  int layers = 0;
  int lanes_per_layer = 0;
  int lanes = 0;           ///< of a sequence
  int heads_per_lane = 0;  ///< KV heads of a lane
  int group = 0;           ///< query heads of a KV head
  int lane_queries = 0;    ///< query heads of a lane
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int row_elements = 0;  ///< elements of a row's K, and of its V
  int max_tokens = 0;
  int max_granules = 0;
  int max_groups = 0;
  int max_sequences = 0;
  int pin_words = 0;  ///< of a sequence: its number of pinned ranges, then a bit a token
  int sinks = 0;
  int window = 0;
  int window_queries = 0;                ///< last queries that a scorer looks at
  int rewind_reach = 0;                  ///< tokens before the caller's last that a trigger may
                                         ///< go back, where a tier spills; 0: as many as it likes
  float dot_limit = 0.0F;                ///< clamp of |q.k|, nats; as host::Geometry::dot_limit
  float octaves = 0.0F;                  ///< scale * log2(e): q.k times this is a logit in octaves
  std::uint32_t row_bytes = 0;           ///< K of a row
  std::uint32_t part_bytes = 0;          ///< K of a granule; V is as large
  std::uint32_t digest_bytes = 0;        ///< of a group and KV head
  std::uint32_t digest_group_bytes = 0;  ///< of a group, all KV heads of the lane
  std::uint32_t values_offset = 0;       ///< V within a page of exact rows
  std::uint32_t records_offset = 0;      ///< slot records within a page of exact rows
  std::uint32_t sums_offset = 0;         ///< sums of |q.k| likewise, for scorers of queries
  std::uint32_t page_bytes = 0;
  std::uint32_t table_pages = 0;  ///< entries of a lane's page table
  std::uint32_t room = 0;         ///< pages of a sequence under a byte cap; 0: there is no cap
  std::uint32_t transfers = 0;    ///< granules that a token may bring from the tier; with a budget
  bool limits_transfers = false;  ///< there is a budget for them
  bool by_demand = false;         ///< without compact rows: a byte cap is met by a water level
  float levels[host::water_levels] = {};  ///< of the water, ascending epsilons
  SegmentGeometry segment[segments];
  PoolPage pool[most_levels];

  [[nodiscard]] KVFREEZE_HD std::uint32_t granule_bytes() const noexcept { return 2 * part_bytes; }
};

namespace detail {

inline constexpr std::uint32_t page_rows = 16;
inline constexpr std::size_t page_alignment = 256;

/// @brief How far behind the caller's length a trigger that goes back k tokens may go, where the
/// rows that this takes must be in memory: twice as far as from one checkpoint to the next but one,
/// for an engine that is late.
inline int rewind_reach(int k, int max_tokens) {
  return static_cast<int>(std::min<std::int64_t>(std::int64_t{4} * k, max_tokens));
}

/// A compact level's page; its entries lie in multiples of four, so that every array is aligned.
template <class C, int Level>
PoolPage make_pool(Geometry& g) {
  PoolPage pool;
  auto const heads = static_cast<std::uint32_t>(g.heads_per_lane);
  auto const channels =
      static_cast<std::uint32_t>(host::round_up(static_cast<std::size_t>(g.head_dim), 64));
  constexpr auto level = static_cast<std::size_t>(Level);
  pool.residual_bytes = channels * static_cast<std::uint32_t>(C::residual_bits(level)) / 8U;
  pool.value_bytes = channels * static_cast<std::uint32_t>(C::CompactRows::value_bits[level]) / 8U;
  std::uint32_t const row =
      heads *
          (pool.residual_bytes + pool.value_bytes + static_cast<std::uint32_t>(sizeof(BFloat16))) +
      static_cast<std::uint32_t>(sizeof(std::uint32_t) + sizeof(std::uint16_t));
  std::uint32_t const rows = std::max(g.page_bytes / row / 4U * 4U, 4U);
  pool.values = heads * rows * pool.residual_bytes;
  pool.scales = pool.values + heads * rows * pool.value_bytes;
  pool.granules = pool.scales + heads * rows * static_cast<std::uint32_t>(sizeof(BFloat16));
  pool.stamps = pool.granules + rows * static_cast<std::uint32_t>(sizeof(std::uint32_t));
  g.segment[pool_segment(Level)].per_page = rows;
  return pool;
}

}  // namespace detail

/// @brief All sizes of a cache on the device.
/// @throws InvalidArgument for a shape or limits out of range
template <class C>
Geometry make_geometry(Shape const& shape, Limits const& limits, typename C::Scorer const& scorer,
                       typename C::Trigger const& trigger) {
  host::check_shape<C>(shape);
  host::check_limits(limits);
  Geometry g;
  g.layers = shape.layers;
  g.query_heads = shape.query_heads;
  g.kv_heads = shape.kv_heads;
  g.head_dim = shape.head_dim;
  g.lanes_per_layer = C::by_layer ? 1 : shape.kv_heads;
  g.lanes = shape.layers * g.lanes_per_layer;
  g.heads_per_lane = C::by_layer ? shape.kv_heads : 1;
  g.group = shape.query_heads / shape.kv_heads;
  g.lane_queries = g.heads_per_lane * g.group;
  g.row_elements = g.heads_per_lane * shape.head_dim;
  g.max_tokens = limits.max_tokens;
  g.max_granules = host::ceil_div(limits.max_tokens, C::page);
  g.max_sequences = limits.max_sequences;
  g.pin_words = 1 + host::ceil_div(limits.max_tokens, 32);
  g.sinks = limits.sinks;
  g.window = limits.window;
  g.window_queries = kvfreeze::detail::query_window(scorer);
  if constexpr (C::spills && C::rewalks) {
    g.rewind_reach = detail::rewind_reach(kvfreeze::detail::rewind_tokens(trigger), g.max_tokens);
  }
  g.dot_limit = host::dot_limit(g.window_queries, g.lane_queries);
  g.octaves = host::octaves_of(shape);
  g.row_bytes = static_cast<std::uint32_t>(static_cast<std::size_t>(g.row_elements) *
                                           sizeof(typename C::Value));
  g.part_bytes = g.row_bytes * static_cast<std::uint32_t>(C::page);
  std::uint32_t const rows = detail::page_rows;
  g.values_offset = rows * g.row_bytes;
  g.records_offset = 2 * g.values_offset;
  g.sums_offset = g.records_offset + rows * static_cast<std::uint32_t>(sizeof(host::SlotRecord));
  std::uint32_t const used = g.sums_offset + (C::needs_queries ? rows : 0) *
                                                 static_cast<std::uint32_t>(sizeof(std::uint32_t));
  g.page_bytes = static_cast<std::uint32_t>(host::round_up(used, detail::page_alignment));
  g.segment[rows_segment].per_page = rows / static_cast<std::uint32_t>(C::page);
  if constexpr (C::has_digest) {
    g.max_groups = limits.max_tokens / C::Digest::group_rows;
    g.digest_bytes = static_cast<std::uint32_t>(C::Digest::bytes(shape.head_dim));
    g.digest_group_bytes = g.digest_bytes * static_cast<std::uint32_t>(g.heads_per_lane);
    // A group may be larger than 16 rows are: of 8-bit codes, with small heads.
    g.page_bytes = std::max(g.page_bytes, static_cast<std::uint32_t>(host::round_up(
                                              g.digest_group_bytes, detail::page_alignment)));
    g.segment[digests_segment].per_page = g.page_bytes / g.digest_group_bytes;
  }
  if constexpr (C::levels > 0) {
    g.pool[0] = detail::make_pool<C, 0>(g);
  }
  if constexpr (C::levels > 1) {
    g.pool[1] = detail::make_pool<C, 1>(g);
  }
  if constexpr (C::levels > 2) {
    g.pool[2] = detail::make_pool<C, 2>(g);
  }
  for (int i = 0; i < segments; ++i) {
    SegmentGeometry& segment = g.segment[i];
    auto const entries = static_cast<std::uint32_t>(
        i == digests_segment                               ? g.max_groups
        : i == rows_segment || i < pool_segment(C::levels) ? g.max_granules
                                                           : 0);
    segment.first_page = g.table_pages;
    segment.most_pages = segment.pages_of(entries);
    g.table_pages += segment.most_pages;
  }
  return g;
}

}  // namespace kvfreeze::gpu
