#pragma once

#include <kvfreeze/host/kernels/simd.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief How many of n flags are not zero.
inline std::size_t count_flags(std::uint8_t const* flags, std::size_t n) noexcept {
  std::size_t total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    total += flags[i] != 0 ? 1U : 0U;
  }
  return total;
}

/// @brief Copies the values whose flag is not zero to `out`, in order; returns how many. `out` may
/// be `values`. Writes nothing behind the last.
template <class T>
std::size_t compress(std::uint8_t const* flags, T const* values, std::size_t n, T* out) noexcept {
  std::size_t written = 0;
  std::size_t i = 0;
#if defined(KVFREEZE_ISA_AVX512)
  if constexpr (sizeof(T) == 4) {
    // Compressing to memory is slow on some machines: to a register, then a masked store.
    for (; i + 16 <= n; i += 16) {
      __m128i const bytes = _mm_loadu_si128(reinterpret_cast<__m128i const*>(flags + i));
      __mmask16 const keep = _mm_test_epi8_mask(bytes, bytes);
      auto const kept = static_cast<int>(_mm_popcnt_u32(keep));
      __m512i const packed = _mm512_maskz_compress_epi32(keep, _mm512_loadu_si512(values + i));
      _mm512_mask_storeu_epi32(out + written, first_lanes(kept), packed);
      written += static_cast<std::size_t>(kept);
    }
  }
#endif
  for (; i < n; ++i) {
    if (flags[i] != 0) {
      out[written++] = values[i];
    }
  }
  return written;
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
