#pragma once

/// @file
/// @brief Causal attention of many queries over one tile of rows: the prefill step.

#include <kvfreeze/host/kernels/online_softmax.hpp>
#include <kvfreeze/host/kernels/tile.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Up to 64 rows of one KV head, widened to float, in position order.
struct PrefillTile {
  float const* k = nullptr;                 ///< [rows][dim]
  float const* v = nullptr;                 ///< [rows][dim]
  int rows = 0;                             ///< in [0, 64]
  std::int32_t const* positions = nullptr;  ///< [rows], ascending; null for consecutive ones
  int first_position = 0;                   ///< of row 0 when `positions` is null

  /// Rows that a query at `position` may see.
  [[nodiscard]] int visible(int position) const noexcept {
    if (positions == nullptr) {
      return std::clamp(position - first_position + 1, 0, rows);
    }
    return static_cast<int>(std::upper_bound(positions, positions + rows, position) - positions);
  }
};

namespace kernels {

/// One query head and what it sees of the tile.
struct PrefillItem {
  float const* q;
  float* max;
  float* sum;
  float* out;
  int visible;
};

/// Pointers to the tile's rows, padded to blocks of 16 with the last row.
struct PrefillRows {
  float const* k[tile_rows];
  float const* v[tile_rows];
};

template <int Items, int Dim>
void attend_items(PrefillRows const& tile, PrefillItem const* items, int dim) noexcept {
  float weights[Items][tile_rows];
  float factors[Items];
  float const* q[Items];
  float* out[Items];
  int most = 0;
  int least = tile_rows;
  for (int i = 0; i < Items; ++i) {
    q[i] = items[i].q;
    out[i] = items[i].out;
    most = std::max(most, items[i].visible);
    least = std::min(least, items[i].visible);
  }
  for (int r = 0; r < most; r += 16) {
    dot_16<Items, Dim>(tile.k + r, q, dim, weights[0] + r, tile_rows);
  }
  for (int i = 0; i < Items; ++i) {
    factors[i] = take_tile(weights[i], items[i].visible, *items[i].max, *items[i].sum);
  }
  accumulate<Items, Dim>(tile.v, 0, least, weights[0], factors, out, dim);
  constexpr float one = 1.0F;
  for (int i = 0; i < Items; ++i) {  // the causal edge: rows that only some of them see
    if (items[i].visible > least) {
      accumulate<1, Dim>(tile.v, least, items[i].visible, weights[i], &one, out + i, dim);
    }
  }
}

}  // namespace kernels

/// @brief Takes a tile into the states of consecutive queries; each sees the rows whose position is
/// at most its own. The bits are those of `attend` over the same rows in the same tiles.
/// @param q `q + i * q_stride` is query i: [heads][dim], times scale * log2(e)
/// @param first_query_position position of query 0; query i is at i more
/// @param states one per query, all of the same heads and dim
/// @complexity O(rows * queries * heads * dim)
inline void attend_tile(PrefillTile const& tile, float const* q, std::ptrdiff_t q_stride,
                        int queries, int first_query_position,
                        OnlineSoftmax const* states) noexcept {
  if (tile.rows == 0 || queries == 0) {
    return;
  }
  int const heads = states[0].heads;
  int const dim = states[0].dim;
  kernels::PrefillRows rows;
  for (int r = 0; r < (tile.rows + 15) / 16 * 16; ++r) {
    int const row = std::min(r, tile.rows - 1);
    rows.k[r] = tile.k + static_cast<std::ptrdiff_t>(row) * dim;
    rows.v[r] = tile.v + static_cast<std::ptrdiff_t>(row) * dim;
  }
  kernels::PrefillItem group[head_group];
  int filled = 0;
  auto const flush = [&]() noexcept {
    if (filled != 0) {
      kernels::with_constants(filled, dim, [&](auto items_c, auto dim_c) {
        kernels::attend_items<items_c(), dim_c()>(rows, group, dim);
      });
      filled = 0;
    }
  };
  for (int i = 0; i < queries; ++i) {
    int const visible = tile.visible(first_query_position + i);
    if (visible == 0) {
      continue;
    }
    for (int h = 0; h < heads; ++h) {
      OnlineSoftmax const& state = states[i];
      group[filled++] = {q + i * q_stride + h * dim, state.max + h, state.sum + h,
                         state.out + h * dim, visible};
      if (filled == head_group) {
        flush();
      }
    }
  }
  flush();
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
