#pragma once

#include <cstdint>

namespace kvfreeze {

/// What a scorer asks of the backend; the backend computes nothing else.
enum class Evidence : std::uint8_t {
  none,     ///< position and age only
  key,      ///< `key_norm`
  queries,  ///< `mean_abs_dot` over the scorer's `queries` most recent queries
  mass,     ///< `mass`: softmax mass under this step's query, mean over the group's query heads
  rows,     ///< `rating`: what the scorer's own rate() makes of the rows, whenever rows are ranked
  lag,      ///< `rating`: the row's rank in its chunk of the scorer's lag() rows, in [0, 1]
};

/// One row of one KV head as rate() sees it.
struct RowContent {
  float const* key = nullptr;    ///< [dim], after RoPE
  float const* value = nullptr;  ///< [dim]
  int dim = 0;
};

/// @brief What a lane knows of all its rows and queries, one KV head's part, for rate().
struct LaneMoments {
  float const* direction = nullptr;  ///< [dim], sum of k / ‖k‖ over all rows that were appended
  float const* queries = nullptr;    ///< [heads][dim], running mean of the queries
  float const* squares = nullptr;    ///< [heads][dim], running mean of their squares
  int heads = 0;                     ///< query heads that share the KV head
  float scale = 0.0F;                ///< of q.k before the softmax
};

/// @brief What is known of one granule when its score is updated.
///
/// Every value is computed in one canonical order with explicit fused multiply-adds, so that host
/// and device, any thread count and any batch see the same bits.
struct RowEvidence {
  float mass = 0.0F;          ///< in [0, 1]; sum over the granule's rows
  float mean_abs_dot = 0.0F;  ///< mean |q.k| * scale over recent queries and heads, max over rows
  float key_norm = 0.0F;      ///< L2 norm of the key, mean over the granule's rows (and heads)
  float rating = 0.0F;        ///< of rate(), mean over the granule's rows and KV heads; or a rank
  std::int32_t position = 0;  ///< position of the granule's first row
  std::int32_t age = 0;       ///< rows appended after it
  std::uint32_t step = 0;     ///< the sequence's step
};

/// A scorer without memory has this state; it takes no space.
struct NoState {};

}  // namespace kvfreeze
