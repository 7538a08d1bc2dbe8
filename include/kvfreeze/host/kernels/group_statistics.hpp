#pragma once

/// @file
/// @brief What the box, cuboid and mean-key digests are made of.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/dot.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

/// The nearest Half in the range of finite ones.
KVFREEZE_HD inline Half clamped_half(float x) noexcept {
  return from_float<Half>(kvfreeze::detail::clamped(x, -65504.0F, 65504.0F));
}

/// The next Half below, or above, one that is not the last finite one.
KVFREEZE_HD inline Half next_half(Half x, bool up) noexcept {
  if ((x.bits & 0x7FFFU) == 0) {
    return {static_cast<std::uint16_t>(up ? 0x0001U : 0x8001U)};
  }
  bool const grows = ((x.bits & 0x8000U) == 0) == up;
  return {static_cast<std::uint16_t>(grows ? x.bits + 1U : x.bits - 1U)};
}

KVFREEZE_HD inline Half half_at_most(float x) noexcept {
  Half const near = clamped_half(x);
  return to_float(near) > x && x > -65504.0F ? next_half(near, false) : near;
}

KVFREEZE_HD inline Half half_at_least(float x) noexcept {
  Half const near = clamped_half(x);
  return to_float(near) < x && x < 65504.0F ? next_half(near, true) : near;
}

}  // namespace kernels

/// @brief Per channel, the smallest and largest of keys [rows][dim], rounded outwards
/// and kept within the range of Half.
inline void encode_bounds(float const* keys, int rows, int dim, Half* low, Half* high) noexcept {
  for (int c = 0; c < dim; ++c) {
    float least = keys[c];
    float most = keys[c];
    for (int r = 1; r < rows; ++r) {
      float const k = keys[static_cast<std::ptrdiff_t>(r) * dim + c];
      least = std::min(least, k);
      most = std::max(most, k);
    }
    low[c] = kernels::half_at_most(least);
    high[c] = kernels::half_at_least(most);
  }
}

/// @brief Per channel, the mean of keys [rows][dim]: their sum in row order, divided.
inline void encode_mean(float const* keys, int rows, int dim, Half* mean) noexcept {
  for (int c = 0; c < dim; ++c) {
    float total = 0.0F;
    for (int r = 0; r < rows; ++r) {
      total += keys[static_cast<std::ptrdiff_t>(r) * dim + c];
    }
    mean[c] = kernels::clamped_half(total / static_cast<float>(rows));
  }
}

/// @brief Largest q . k of a key within the bounds: per channel q * low or q * high, summed in the
/// canonical order.
inline float upper_bound(float const* q, Half const* low, Half const* high, int dim) noexcept {
  F32x16 total = splat(0.0F);
  auto const step = [&](auto const get, int i) {
    F32x16 const query = get(q + i);
    F32x16 const key = select(less(query, splat(0.0F)), get(low + i), get(high + i));
    total = fma(query, key, total);
  };
  int i = 0;
  for (; i + 16 <= dim; i += 16) {
    step([](auto const* p) { return load(p); }, i);
  }
  if (i < dim) {
    step([](auto const* p) { return load8(p); }, i);
  }
  return sum(total);
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
