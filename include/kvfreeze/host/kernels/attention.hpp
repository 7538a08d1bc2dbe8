#pragma once

/// @file
/// @brief Attention of one query over cached rows: the decode step.

#include <kvfreeze/config.hpp>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/kernels/online_softmax.hpp>
#include <kvfreeze/host/kernels/tile.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief Where the rows of a lane lie. Slot s is row s % block_rows of block s / block_rows.
/// @tparam T element type of the stored rows
template <Element T>
struct RowBlocks {
  std::byte const* base = nullptr;  ///< blocks of [K: block_rows rows][V: block_rows rows][more]
  std::size_t block_bytes = 0;      ///< from block to block
  int block_rows = 16;              ///< a power of two
  int row_elements = 0;             ///< from row to row of K, and of V
  int offset = 0;                   ///< first element of the KV head within a row

  [[nodiscard]] T const* k(std::uint32_t slot) const noexcept {
    auto const rows = static_cast<std::uint32_t>(block_rows);
    auto const* block = reinterpret_cast<T const*>(
        base + static_cast<std::size_t>(slot >> std::countr_zero(rows)) * block_bytes);
    return block + static_cast<std::ptrdiff_t>(slot & (rows - 1)) * row_elements + offset;
  }

  [[nodiscard]] T const* v(std::uint32_t slot) const noexcept {
    return k(slot) + static_cast<std::ptrdiff_t>(block_rows) * row_elements;
  }
};

namespace kernels {

template <Element T>
[[gnu::always_inline]] inline void prefetch_row(T const* row, int dim) noexcept {
  for (int i = 0; i < dim; i += static_cast<int>(64 / sizeof(T))) {
    prefetch(row + i);
  }
}

/// The rows of one tile: pointers to K and V, padded to blocks of 16 with the last row.
template <Element T>
struct TileRows {
  T const* k[tile_rows];
  T const* v[tile_rows];

  void gather(RowBlocks<T> const& rows, std::uint32_t const* slots, int first, int count) noexcept {
    for (int i = 0; i < count; ++i) {
      k[i] = rows.k(slots != nullptr ? slots[first + i] : static_cast<std::uint32_t>(first + i));
      v[i] = k[i] + static_cast<std::ptrdiff_t>(rows.block_rows) * rows.row_elements;
    }
    for (int i = count; i < (count + 15) / 16 * 16; ++i) {
      k[i] = k[count - 1];
    }
  }
};

/// Takes rows whose logits are in `weights` into `state`; the logits become weights.
template <int Heads, int Dim, Element T>
void take_rows(T const* const* values, int rows, float (&weights)[Heads][tile_rows],
               OnlineSoftmax const& state, int first_head) noexcept {
  float factors[Heads];
  float* out[Heads];
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    int const head = first_head + h;
    out[h] = state.out + head * state.dim;
    factors[h] = take_tile(weights[h], rows, state.max[head], state.sum[head]);
  }
  accumulate<Heads, Dim>(values, 0, rows, weights[0], factors, out, state.dim);
}

template <int Heads, int Dim, Element T, class Ahead>
void attend_rows(TileRows<T> const& tile, int rows, float const* q, OnlineSoftmax const& state,
                 int first_head, float* logits, std::ptrdiff_t stride,
                 Ahead const& ahead) noexcept {
  float weights[Heads][tile_rows];
  float const* queries[Heads];
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    queries[h] = q + (first_head + h) * state.dim;
  }
  for (int i = 0; i < rows; i += 16) {
    ahead(i);
    dot_16<Heads, Dim>(tile.k + i, queries, state.dim, weights[0] + i, tile_rows);
  }
  for (int h = 0; logits != nullptr && h < Heads; ++h) {
    std::memcpy(logits + (first_head + h) * stride, weights[h],
                static_cast<std::size_t>(rows) * sizeof(float));
  }
  take_rows<Heads, Dim>(tile.v, rows, weights, state, first_head);
}

/// Logits of up to 16 rows under all heads.
template <Element T>
void logits_of_16(T const* const* rows, int count, float const* q, int heads, int dim,
                  float* logits, std::ptrdiff_t stride) noexcept {
  for (int h = 0; h < heads; h += head_group) {
    with_constants(std::min(head_group, heads - h), dim, [&](auto heads_c, auto dim_c) {
      float const* queries[heads_c()];
      for (int i = 0; i < heads_c(); ++i) {
        queries[i] = q + static_cast<std::ptrdiff_t>(h + i) * dim;
      }
      float result[heads_c()][lane_count];
      dot_16<heads_c(), dim_c()>(rows, queries, dim, result[0], lane_count);
      for (int i = 0; i < heads_c(); ++i) {
        std::memcpy(logits + (h + i) * stride, result[i],
                    static_cast<std::size_t>(count) * sizeof(float));
      }
    });
  }
}

}  // namespace kernels

/// @brief Takes `count` rows into `state`, in list order, tiles of 64 from the first.
///
/// Per tile: logits by the canonical `dot`, largest, rescaling, weights 2^(logit - largest), then
/// V row by row with fused multiply-adds.
/// @param slots the rows' slots, or null for 0, 1, ..., count - 1
/// @param q [heads][dim], times scale * log2(e): logits are octaves
/// @param logits `logits[h * stride + i]` of row i, or null
/// @complexity O(count * heads * dim); reads each row once per four heads
template <Element T>
void attend(RowBlocks<T> const& rows, std::uint32_t const* slots, int count, float const* q,
            OnlineSoftmax const& state, float* logits, std::ptrdiff_t stride) noexcept {
  KVFREEZE_ASSERT(std::has_single_bit(static_cast<std::uint32_t>(rows.block_rows)));
  kernels::TileRows<T> tile;
  for (int first = 0; first < count; first += tile_rows) {
    int const n = std::min(tile_rows, count - first);
    tile.gather(rows, slots, first, n);
    // Asked for ahead even where rows are contiguous: from memory that is 10 ns a row against 14,
    // for 1 ns when everything is in the cache. Scattered rows are asked for a tile at a time,
    // which keeps more of them under way: 23 ns a row against 55.
    int const step = slots != nullptr ? tile_rows : 16;
    auto const ahead = [&](int i, int dim) {
      int const last = std::min(i + step, n);
      for (int j = i; j < last; ++j) {
        kernels::prefetch_row(tile.v[j], dim);
      }
      int const from = first + i + step;
      int const to = std::min(from + step, count);
      for (int j = from; j < to; ++j) {
        kernels::prefetch_row(rows.k(slots != nullptr ? slots[j] : static_cast<std::uint32_t>(j)),
                              dim);
      }
      end_prefetch();
    };
    for (int h = 0; h < state.heads; h += head_group) {
      int const heads = std::min(head_group, state.heads - h);
      float* const tile_logits = logits == nullptr ? nullptr : logits + first;
      kernels::with_constants(heads, state.dim, [&](auto heads_c, auto dim_c) {
        auto const ahead_of_block = [&](int i) {
          if (h == 0 && i % step == 0) {
            ahead(i, dim_c() != 0 ? dim_c() : state.dim);
          }
        };
        kernels::attend_rows<heads_c(), dim_c()>(tile, n, q, state, h, tile_logits, stride,
                                                 ahead_of_block);
      });
    }
  }
}

/// @brief Takes the rows of slots first, ..., first + count - 1 into `state`, given their logits:
/// the bits of `attend` over these slots, without reading K. Tiles of 64 from the first.
/// @param logits `logits[h * stride + i]` of slot first + i, as `attend` gives them
/// @complexity O(count * heads * dim); reads each value once per four heads
template <Element T>
void attend_known(RowBlocks<T> const& rows, int first, int count, float const* logits,
                  std::ptrdiff_t stride, OnlineSoftmax const& state) noexcept {
  KVFREEZE_ASSERT(std::has_single_bit(static_cast<std::uint32_t>(rows.block_rows)));
  T const* values[tile_rows];
  auto const prefetch_values = [&](int begin, int end) {
    for (int i = begin; i < end; ++i) {
      kernels::prefetch_row(rows.v(static_cast<std::uint32_t>(first + i)), state.dim);
    }
    end_prefetch();
  };
  prefetch_values(0, std::min(tile_rows, count));
  for (int begin = 0; begin < count; begin += tile_rows) {
    int const n = std::min(tile_rows, count - begin);
    for (int i = 0; i < n; ++i) {
      values[i] = rows.v(static_cast<std::uint32_t>(first + begin + i));
    }
    prefetch_values(begin + n, std::min(begin + n + tile_rows, count));
    for (int h = 0; h < state.heads; h += head_group) {
      kernels::with_constants(
          std::min(head_group, state.heads - h), state.dim, [&](auto heads_c, auto dim_c) {
            float weights[heads_c()][tile_rows];
            for (int i = 0; i < heads_c(); ++i) {
              std::memcpy(weights[i], logits + (h + i) * stride + begin,
                          static_cast<std::size_t>(n) * sizeof(float));
            }
            kernels::take_rows<heads_c(), dim_c()>(values, n, weights, state, h);
          });
    }
  }
}

/// @brief Takes rows into `state` of which only the logits are at hand: its `max` and `sum` are
/// brought up to date and `out` is rescaled; the caller adds weight * value of each row to `out`.
///
/// One rescaling for the whole run; weights are summed in tiles of 64 from the first. Up to 64 rows
/// give the bits that `attend` gives, if values are added in order by fused multiply-adds.
/// @param logits `logits[h * stride + i]` in octaves; rows of -infinity weigh 0
/// @param weights `weights[h * stride + i]` = 2^(logit - max); may be `logits`
/// @complexity O(heads * (count + dim))
inline void weigh(float const* logits, std::ptrdiff_t stride, int count, OnlineSoftmax const& state,
                  float* weights) noexcept {
  for (int h = 0; count > 0 && h < state.heads; ++h) {
    float const* const row = logits + h * stride;
    float const before = state.max[h];
    float const here = kernels::largest_of(row, count);
    state.max[h] = here > before ? here : before;
    // As in `take_tile`: rows of which all logits are -inf weigh nothing.
    float const origin = state.max[h] > kernels::minus_infinity ? state.max[h] : 0.0F;
    float const factor = exp2(before - origin);
    float sum = state.sum[h];
    for (int begin = 0; begin < count; begin += tile_rows) {
      int const n = std::min(tile_rows, count - begin);
      float* const out = weights + h * stride + begin;
      float total = 0.0F;
      if (n == tile_rows) {
        if (out != row + begin) {
          std::memcpy(out, row + begin, tile_rows * sizeof(float));
        }
        total = kernels::tile_weights(out, origin);
      } else {
        float tile[tile_rows];
        std::memcpy(tile, row + begin, static_cast<std::size_t>(n) * sizeof(float));
        std::fill(tile + n, tile + tile_rows, kernels::minus_infinity);
        total = kernels::tile_weights(tile, origin);
        std::memcpy(out, tile, static_cast<std::size_t>(n) * sizeof(float));
      }
      sum = kernels::fused(sum, begin == 0 ? factor : 1.0F, total);
    }
    state.sum[h] = sum;
    float* const out = state.out + static_cast<std::ptrdiff_t>(h) * state.dim;
    for (int d = 0; factor != 1.0F && d < state.dim; ++d) {
      out[d] *= factor;
    }
  }
}

/// @brief Logits of rows that lie anywhere, without attention: the bits of `attend`'s.
/// @param rows [count] pointers to the head's keys
/// @param logits `logits[h * stride + i]` of row i
/// @complexity O(count * heads * dim)
template <Element T>
void row_logits(T const* const* rows, int count, float const* q, int heads, int dim, float* logits,
                std::ptrdiff_t stride) noexcept {
  for (int first = 0; first < count; first += lane_count) {
    int const n = std::min(lane_count, count - first);
    T const* block[lane_count];
    for (int i = 0; i < lane_count; ++i) {
      block[i] = rows[first + std::min(i, n - 1)];
    }
    kernels::logits_of_16(block, n, q, heads, dim, logits + first, stride);
  }
}

/// @brief Logits of slots 0, ..., count - 1, without attention: the bits of `attend`'s. Reads K
/// alone, and asks for it ahead.
/// @param logits `logits[h * stride + i]` of slot i
/// @complexity O(count * heads * dim); reads each key once per four heads
template <Element T>
void block_logits(RowBlocks<T> const& rows, int count, float const* q, int heads, int dim,
                  float* logits, std::ptrdiff_t stride) noexcept {
  KVFREEZE_ASSERT(std::has_single_bit(static_cast<std::uint32_t>(rows.block_rows)));
  for (int first = 0; first < count; first += lane_count) {
    int const n = std::min(lane_count, count - first);
    T const* block[lane_count];
    for (int i = 0; i < lane_count; ++i) {
      block[i] = rows.k(static_cast<std::uint32_t>(first + std::min(i, n - 1)));
    }
    for (int i = first + n; i < std::min(first + n + lane_count, count); ++i) {
      kernels::prefetch_row(rows.k(static_cast<std::uint32_t>(i)), dim);
    }
    end_prefetch();
    kernels::logits_of_16(block, n, q, heads, dim, logits + first, stride);
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
