#pragma once

/// @file
/// @brief Attention in pieces: over rows whose weights are known, over rows that were just loaded,
/// over the newest slots.

#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/masses.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief highest[h] = largest logit of head h among the rows that take part in the runs.
/// @complexity O(heads * rows)
inline void largest_logits(std::span<LogitRun const> runs, int heads, float* highest) noexcept {
  for (int h = 0; h < heads; ++h) {
    kernels::largest_logits<1>(runs, h, highest + h);
  }
}

namespace kernels {

/// Sum of n numbers in a canonical order: sixteen lanes, then across them. `get(i)` has numbers
/// i to i + 15, `get_first(i, n)` the last n, zeros behind them.
template <class Get, class GetFirst>
float sum_of(int n, Get const& get, GetFirst const& get_first) noexcept {
  F32x16 total = splat(0.0F);
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    total = add(total, get(i));
  }
  if (i < n) {
    total = add(total, get_first(i, n - i));
  }
  return sum(total);
}

}  // namespace kernels

/// @brief Turns the integer weights that softmax_masses() left in place of logits into floats;
/// returns their sum. O(n).
inline float take_weights(float* weights, int n) noexcept {
  auto const* const integers = reinterpret_cast<std::int32_t const*>(weights);
  return kernels::sum_of(
      n,
      [=](int i) {
        F32x16 const w = to_floats(load(integers + i));
        store(weights + i, w);
        return w;
      },
      [=](int i, int rest) {
        F32x16 const w = to_floats(load_first(integers + i, rest, 0));
        store_first(weights + i, w, rest);
        return w;
      });
}

/// Sum of such integer weights; they stay as they are. O(n).
inline float sum_weights(float const* weights, int n) noexcept {
  auto const* const integers = reinterpret_cast<std::int32_t const*>(weights);
  return kernels::sum_of(
      n, [=](int i) { return to_floats(load(integers + i)); },
      [=](int i, int rest) { return to_floats(load_first(integers + i, rest, 0)); });
}

/// Sum of n floats. O(n).
inline float sum_floats(float const* x, int n) noexcept {
  return kernels::sum_of(
      n, [=](int i) { return load(x + i); },
      [=](int i, int rest) { return load_first(x + i, rest, 0.0F); });
}

/// @brief out[h] += sum over slots 0, ..., count - 1 of weights[h * stride + slot] * V, in order.
/// @param out [heads][dim]
/// @complexity O(count * heads * dim); reads each value once per four heads
template <Element T>
void accumulate_rows(RowBlocks<T> const& rows, int count, float const* weights,
                     std::ptrdiff_t stride, int heads, int dim,
                     float* out) noexcept {  // NOLINT(readability-non-const-parameter): written
  T const* values[tile_rows];
  auto const prefetch_values = [&](int begin, int end) {
    for (int i = begin; i < end; ++i) {
      kernels::prefetch_row(rows.v(static_cast<std::uint32_t>(i)), dim);
    }
    end_prefetch();
  };
  prefetch_values(0, std::min(16, count));
  for (int begin = 0; begin < count; begin += tile_rows) {
    int const n = std::min(tile_rows, count - begin);
    for (int i = 0; i < n; ++i) {
      values[i] = rows.v(static_cast<std::uint32_t>(begin + i));
    }
    prefetch_values(std::min(begin + 16, count), std::min(begin + n + 16, count));
    for (int h = 0; h < heads; h += head_group) {
      kernels::with_constants(std::min(head_group, heads - h), dim, [&](auto heads_c, auto dim_c) {
        float tile[heads_c()][tile_rows];
        float factors[heads_c()];
        float* outputs[heads_c()];
        for (int i = 0; i < heads_c(); ++i) {
          std::memcpy(tile[i], weights + (h + i) * stride + begin,
                      static_cast<std::size_t>(n) * sizeof(float));
          factors[i] = 1.0F;
          outputs[i] = out + static_cast<std::ptrdiff_t>(h + i) * dim;
        }
        kernels::accumulate<heads_c(), dim_c()>(values, 0, n, tile[0], factors, outputs, dim);
      });
    }
  }
}

/// @brief Logits of listed slots, `logits[h * stride + i]` of the i-th.
template <Element T>
void listed_logits(RowBlocks<T> const& rows, std::uint32_t const* slots, int count, float const* q,
                   int heads, int dim, float* logits, std::ptrdiff_t stride) noexcept {
  T const* keys[tile_rows];
  for (int first = 0; first < count; first += tile_rows) {
    int const n = std::min(tile_rows, count - first);
    for (int i = 0; i < n; ++i) {
      keys[i] = rows.k(slots[first + i]);
    }
    row_logits(keys, n, q, heads, dim, logits + first, stride);
  }
}

/// @brief Takes up to 64 rows that lie anywhere into `state`; the bits of `attend` over them.
/// @param keys, values [count]: the head's elements of each row
template <Element T>
void attend_tile(T const* const* keys, T const* const* values, int count, float const* q,
                 OnlineSoftmax const& state) noexcept {
  if (count == 0) {
    return;
  }
  kernels::TileRows<T> tile;
  std::copy_n(keys, count, tile.k);
  std::copy_n(values, count, tile.v);
  std::fill(tile.k + count, tile.k + (count + 15) / 16 * 16, keys[count - 1]);
  for (int h = 0; h < state.heads; h += head_group) {
    kernels::with_constants(std::min(head_group, state.heads - h), state.dim,
                            [&](auto heads_c, auto dim_c) {
                              kernels::attend_rows<heads_c(), dim_c()>(tile, count, q, state, h,
                                                                       nullptr, 0, [](int) {});
                            });
  }
}

/// @brief Takes rows first, ..., count - 1 of a list of slots (null: slot i is row i) into `state`.
template <Element T>
void attend_from(RowBlocks<T> const& rows, std::uint32_t const* slots, int first, int count,
                 float const* q, OnlineSoftmax const& state) noexcept {
  T const* keys[tile_rows];
  T const* values[tile_rows];
  for (; first < count; first += tile_rows) {
    int const n = std::min(tile_rows, count - first);
    for (int i = 0; i < n; ++i) {
      auto const slot = slots != nullptr ? slots[first + i] : static_cast<std::uint32_t>(first + i);
      keys[i] = rows.k(slot);
      values[i] = rows.v(slot);
    }
    attend_tile(keys, values, n, q, state);
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
