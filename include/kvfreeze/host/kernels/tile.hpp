#pragma once

/// @file
/// @brief Sixty-four rows under a few query heads: the steps that decode and prefill share.

#include <kvfreeze/host/kernels/exp2.hpp>

#include <algorithm>
#include <limits>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// Rows whose logits are known before one rescaling. Part of the canonical order.
inline constexpr int tile_rows = 64;

namespace kernels {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// logits[h * stride + i] = q[h] . rows[i] for 16 rows, each the bits of `dot`.
template <int Heads, int Dim, Element T>
void dot_16(T const* const* rows, float const* const* q, int dynamic_dim, float* logits,
            int stride) noexcept {
  int const dim = Dim != 0 ? Dim : dynamic_dim;
  F32x16 quads[4][Heads];
  for (int t = 0; t < 4; ++t) {
    T const* const r[4] = {rows[t], rows[t + 4], rows[t + 8], rows[t + 12]};
    F32x16 total[4][Heads];
    KVFREEZE_UNROLL
    for (auto& row : total) {
      KVFREEZE_UNROLL
      for (auto& x : row) {
        x = splat(0.0F);
      }
    }
    auto const step = [&](auto const load_lanes, int c) {
      F32x16 k[4];
      KVFREEZE_UNROLL
      for (int i = 0; i < 4; ++i) {
        k[i] = load_lanes(r[i] + c);
      }
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        F32x16 const w = load_lanes(q[h] + c);
        KVFREEZE_UNROLL
        for (int i = 0; i < 4; ++i) {
          total[i][h] = fma(w, k[i], total[i][h]);
        }
      }
    };
    int c = 0;
    for (; c + 16 <= dim; c += 16) {
      step([](auto const* p) { return load(p); }, c);
    }
    if (c < dim) {
      step([](auto const* p) { return load8(p); }, c);
    }
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      quads[t][h] = reduce_to_quads(total[0][h], total[1][h], total[2][h], total[3][h]);
    }
  }
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    store(logits + h * stride, reduce_quads(quads[0][h], quads[1][h], quads[2][h], quads[3][h]));
  }
}

/// Largest of the tile's logits, of which those from `rows` on are made -infinity.
inline float tile_max(float* logits, int rows) noexcept {
  std::fill(logits + rows, logits + tile_rows, minus_infinity);
  return largest(
      max(max(load(logits), load(logits + 16)), max(load(logits + 32), load(logits + 48))));
}

/// weights[i] = 2^(logits[i] - highest) in place; returns their canonical sum.
inline float tile_weights(float* logits, float highest) noexcept {
  F32x16 const shift = splat(highest);
  F32x16 total = splat(0.0F);
  for (int i = 0; i < tile_rows; i += 16) {
    F32x16 const weight = exp2(sub(load(logits + i), shift));
    store(logits + i, weight);
    total = add(total, weight);
  }
  return sum(total);
}

/// @brief Turns the tile's logits into weights and takes them into the running sum.
/// @return the factor by which the output so far must be scaled
inline float take_tile(float* logits, int rows, float& running_max, float& running_sum) noexcept {
  float const before = running_max;
  float const here = tile_max(logits, rows);
  running_max = here > before ? here : before;
  // 2^(-inf - -inf) would be NaN: rows of which all logits are -inf weigh nothing.
  float const origin = running_max > minus_infinity ? running_max : 0.0F;
  float const factor = exp2(before - origin);
  running_sum = fused(running_sum, factor, tile_weights(logits, origin));
  return factor;
}

/// out[h][begin + i] = out * factor + sum over rows of weight * value, row by row.
template <int Heads, int Vectors, bool Half8, Element T>
void accumulate_block(T const* const* rows, int begin_row, int end_row, float const* weights,
                      float const* factors, float* const* out, int column) noexcept {
  F32x16 total[Heads][Vectors];
  auto const get = [](auto const* p) {
    if constexpr (Half8) {
      return load8(p);
    } else {
      return load(p);
    }
  };
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    KVFREEZE_UNROLL
    for (int i = 0; i < Vectors; ++i) {
      total[h][i] = mul(get(out[h] + column + 16 * i), splat(factors[h]));
    }
  }
  for (int r = begin_row; r < end_row; ++r) {
    T const* const row = rows[r] + column;
    F32x16 v[Vectors];
    KVFREEZE_UNROLL
    for (int i = 0; i < Vectors; ++i) {
      v[i] = get(row + 16 * i);
    }
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      F32x16 const w = splat(weights[h * tile_rows + r]);
      KVFREEZE_UNROLL
      for (int i = 0; i < Vectors; ++i) {
        total[h][i] = fma(w, v[i], total[h][i]);
      }
    }
  }
  KVFREEZE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    KVFREEZE_UNROLL
    for (int i = 0; i < Vectors; ++i) {
      if constexpr (Half8) {
        store8(out[h] + column + 16 * i, total[h][i]);
      } else {
        store(out[h] + column + 16 * i, total[h][i]);
      }
    }
  }
}

/// The same for all columns.
template <int Heads, int Dim, Element T>
void accumulate(T const* const* rows, int begin_row, int end_row, float const* weights,
                float const* factors, float* const* out, int dynamic_dim) noexcept {
  int const dim = Dim != 0 ? Dim : dynamic_dim;
  int c = 0;
  for (; c + 64 <= dim; c += 64) {
    accumulate_block<Heads, 4, false>(rows, begin_row, end_row, weights, factors, out, c);
  }
  if (c + 32 <= dim) {
    accumulate_block<Heads, 2, false>(rows, begin_row, end_row, weights, factors, out, c);
    c += 32;
  }
  if (c + 16 <= dim) {
    accumulate_block<Heads, 1, false>(rows, begin_row, end_row, weights, factors, out, c);
    c += 16;
  }
  if (c < dim) {
    accumulate_block<Heads, 1, true>(rows, begin_row, end_row, weights, factors, out, c);
  }
}

/// Calls f(heads, dim) with both as constants; dim 0 stands for any but 64 and 128.
template <class F>
void with_constants(int heads, int dim, F const& f) noexcept {
  auto const with_dim = [&](auto constant_heads) {
    if (dim == 64) {
      f(constant_heads, std::integral_constant<int, 64>{});
    } else if (dim == 128) {
      f(constant_heads, std::integral_constant<int, 128>{});
    } else {
      f(constant_heads, std::integral_constant<int, 0>{});
    }
  };
  switch (heads) {
    case 1:
      return with_dim(std::integral_constant<int, 1>{});
    case 2:
      return with_dim(std::integral_constant<int, 2>{});
    case 3:
      return with_dim(std::integral_constant<int, 3>{});
    default:
      return with_dim(std::integral_constant<int, 4>{});
  }
}

}  // namespace kernels

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
