#pragma once

#include <kvfreeze/host/kernels/simd.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// @brief to[i] = from[index[i]]. O(count).
inline void gather_floats(float const* from, std::uint32_t const* index, int count,
                          float* to) noexcept {
  int i = 0;
#if defined(KVFREEZE_ISA_AVX512)
  for (; i + 16 <= count; i += 16) {
    __m512i const at = _mm512_loadu_si512(index + i);
    _mm512_storeu_ps(to + i, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xFFFF, at, from, 4));
  }
#elif defined(KVFREEZE_ISA_AVX2)
  for (; i + 8 <= count; i += 8) {
    __m256i const at = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(index + i));
    _mm256_storeu_ps(to + i,
                     _mm256_mask_i32gather_ps(_mm256_setzero_ps(), from, at,
                                              _mm256_castsi256_ps(_mm256_set1_epi32(-1)), 4));
  }
#endif
  for (; i < count; ++i) {
    to[i] = from[index[i]];
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
