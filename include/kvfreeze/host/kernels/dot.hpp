#pragma once

#include <kvfreeze/host/kernels/simd.hpp>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief a . b over n elements, n a multiple of 8.
///
/// The canonical order of every dot product: sixteen chains of fused multiply-adds from zero (a
/// last half block adds zeros to the upper eight), then the tree of `sum`.
template <Element T>
float dot(float const* a, T const* b, int n) noexcept {
  F32x16 total = splat(0.0F);
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    total = fma(load(a + i), load(b + i), total);
  }
  if (i < n) {
    total = fma(load8(a + i), load8(b + i), total);
  }
  return sum(total);
}

/// @brief x . x in the canonical order; n a multiple of 8.
template <Element T>
float sum_of_squares(T const* x, int n) noexcept {
  F32x16 total = splat(0.0F);
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    F32x16 const v = load(x + i);
    total = fma(v, v, total);
  }
  if (i < n) {
    F32x16 const v = load8(x + i);
    total = fma(v, v, total);
  }
  return sum(total);
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
