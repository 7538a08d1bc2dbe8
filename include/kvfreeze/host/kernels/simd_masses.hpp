#pragma once

/// @file
/// @brief The few vector operations that only masses and their thresholds need, in the three
/// versions of `simd.hpp` and under its rules.
///
/// - `equal_bits(p, bits, value)`: lanes with `(p[i] & bits) == value`, of 16 bytes.
/// - `add_at_most(sum, x, bound)`: sum + x in the lanes with x <= bound, else sum.
/// - `rounded_where(m, a)`: `rounded(a)`, 0 where m is false.
/// - `WideSum`: the sum of unsigned 32-bit lanes in 64 bits.

#include <kvfreeze/host/kernels/simd.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host::inline KVFREEZE_ISA {

#if defined(KVFREEZE_ISA_AVX512)

inline Mask16 equal_bits(std::uint8_t const* p, std::uint8_t bits, std::uint8_t value) noexcept {
  __m128i const bytes = _mm_loadu_si128(reinterpret_cast<__m128i const*>(p));
  return {_mm_cmpeq_epi8_mask(_mm_and_si128(bytes, _mm_set1_epi8(static_cast<char>(bits))),
                              _mm_set1_epi8(static_cast<char>(value)))};
}

inline I32x16 add_at_most(I32x16 sum, I32x16 x, I32x16 bound) noexcept {
  return {_mm512_mask_add_epi32(sum.v, _mm512_cmple_epi32_mask(x.v, bound.v), sum.v, x.v)};
}

inline I32x16 rounded_where(Mask16 m, F32x16 a) noexcept {
  return {_mm512_maskz_cvtps_epi32(m.m, a.v)};
}

struct WideSum {
  __m512i v = _mm512_setzero_si512();

  void add(I32x16 x) noexcept {
    __m512i const even = _mm512_and_si512(x.v, _mm512_set1_epi64(0xFFFFFFFF));
    __m512i const odd = _mm512_maskz_srli_epi64(0xFF, x.v, 32);
    v = _mm512_add_epi64(v, _mm512_add_epi64(even, odd));
  }

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t lanes[8];
    _mm512_storeu_si512(lanes, v);
    std::uint64_t sum = 0;
    for (std::uint64_t const lane : lanes) {
      sum += lane;
    }
    return sum;
  }
};

#elif defined(KVFREEZE_ISA_AVX2)

inline Mask16 equal_bits(std::uint8_t const* p, std::uint8_t bits, std::uint8_t value) noexcept {
  __m128i const bytes = _mm_loadu_si128(reinterpret_cast<__m128i const*>(p));
  __m128i const equal = _mm_cmpeq_epi8(_mm_and_si128(bytes, _mm_set1_epi8(static_cast<char>(bits))),
                                       _mm_set1_epi8(static_cast<char>(value)));
  return {_mm256_castsi256_ps(_mm256_cvtepi8_epi32(equal)),
          _mm256_castsi256_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(equal, 8)))};
}

inline I32x16 add_at_most(I32x16 sum, I32x16 x, I32x16 bound) noexcept {
  return {_mm256_add_epi32(sum.lo, _mm256_andnot_si256(_mm256_cmpgt_epi32(x.lo, bound.lo), x.lo)),
          _mm256_add_epi32(sum.hi, _mm256_andnot_si256(_mm256_cmpgt_epi32(x.hi, bound.hi), x.hi))};
}

inline I32x16 rounded_where(Mask16 m, F32x16 a) noexcept {
  return both(as_ints({m.lo, m.hi}), rounded(a));
}

struct WideSum {
  __m256i v = _mm256_setzero_si256();

  void add(I32x16 x) noexcept {
    __m256i const low = _mm256_set1_epi64x(0xFFFFFFFF);
    __m256i const even = _mm256_add_epi64(_mm256_and_si256(x.lo, low), _mm256_and_si256(x.hi, low));
    __m256i const odd = _mm256_add_epi64(_mm256_srli_epi64(x.lo, 32), _mm256_srli_epi64(x.hi, 32));
    v = _mm256_add_epi64(v, _mm256_add_epi64(even, odd));
  }

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t lanes[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), v);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
  }
};

#else

inline Mask16 equal_bits(std::uint8_t const* p, std::uint8_t bits, std::uint8_t value) noexcept {
  return lanes<Mask16>([=](int i) { return (p[i] & bits) == value; });
}

inline I32x16 add_at_most(I32x16 const& sum, I32x16 const& x, I32x16 const& bound) noexcept {
  return wrapping(
      [&](int i) { return bits_of(sum.v[i]) + (x.v[i] <= bound.v[i] ? bits_of(x.v[i]) : 0U); });
}

inline I32x16 rounded_where(Mask16 const& m, F32x16 const& a) noexcept {
  return select(m, rounded(a), splat(0));
}

struct WideSum {
  std::uint64_t sum = 0;

  void add(I32x16 const& x) noexcept {
    for (std::int32_t const lane : x.v) {
      sum += bits_of(lane);
    }
  }

  [[nodiscard]] std::uint64_t total() const noexcept { return sum; }
};

#endif

/// The same of n < 16 bytes: no more are read, and the other lanes are false.
/// @pre value is not 0
inline Mask16 equal_bits_first(std::uint8_t const* p, int n, std::uint8_t bits,
                               std::uint8_t value) noexcept {
  std::uint8_t bytes[16] = {};
  std::memcpy(bytes, p, static_cast<std::size_t>(n));
  return equal_bits(bytes, bits, value);
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
