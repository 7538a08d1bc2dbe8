#pragma once

#include <kvfreeze/host/kernels/simd.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief out[i] = in[i] for i in [0, n), widened exactly. O(n).
template <Element T>
void to_floats(T const* in, float* out, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    store(out + i, load(in + i));
  }
  for (; i < n; ++i) {
    out[i] = to_float(in[i]);
  }
}

/// @brief out[i] = in[i] for i in [0, n), to nearest even: the bits of `from_float<T>`. O(n).
template <Element T>
void from_floats(float const* in, T* out, std::size_t n) noexcept {
  if constexpr (std::same_as<T, float>) {
    if (n != 0) {
      std::memcpy(out, in, n * sizeof(float));
    }
  } else {
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
      F32x16 const x = load(in + i);
      if constexpr (std::same_as<T, Half>) {
        store_rounded(out + i, x);
      } else {
        I32x16 const bits = as_ints(x);
        I32x16 const odd = both(shift_right<16>(bits), splat(1));
        I32x16 const nearest = add(add(bits, splat(0x7FFF)), odd);
        I32x16 const quiet = either(bits, splat(0x00400000));
        store_words(out + i, shift_right<16>(select(unordered(x), quiet, nearest)));
      }
    }
    for (; i < n; ++i) {
      out[i] = from_float<T>(in[i]);
    }
  }
}

/// @brief False if one of x[0..n) is infinite or NaN. O(n), at the speed of memory.
inline bool all_finite(float const* x, std::size_t n) noexcept {
  I32x16 highest = splat(0);  // of the bits without sign: infinity and NaN are above all numbers
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    highest = max(highest, both(as_ints(load(x + i)), splat(0x7FFFFFFF)));
  }
  if (i < n) {
    F32x16 const rest = load_first(x + i, static_cast<int>(n - i), 0.0F);
    highest = max(highest, both(as_ints(rest), splat(0x7FFFFFFF)));
  }
  return !any(less(splat(0x7F7FFFFF), highest));
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
