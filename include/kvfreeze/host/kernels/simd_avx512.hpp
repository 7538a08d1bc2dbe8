#pragma once

/// @file
/// @brief AVX-512 (F, BW, DQ, VL; VNNI when there is) version of `simd.hpp`, which documents it.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/isa.hpp>

#include <cstdint>
#include <type_traits>

#if defined(KVFREEZE_ISA_AVX512)
#include <immintrin.h>

namespace kvfreeze::host::inline avx512 {

inline constexpr int head_group = 4;  // heads whose accumulators share the registers

struct F32x16 {
  __m512 v;
};

struct I32x16 {
  __m512i v;
};

struct Mask16 {
  __mmask16 m;
};

// The zero-masking forms below stand in for plain ones about which GCC 12 warns falsely.

inline __mmask16 first_lanes(int n) noexcept {
  return static_cast<__mmask16>((std::uint32_t{1} << n) - 1U);
}

inline __m256 low_lanes(__m512 a) noexcept { return _mm512_maskz_extractf32x8_ps(0xFF, a, 0); }

inline __m256 high_lanes(__m512 a) noexcept { return _mm512_maskz_extractf32x8_ps(0xFF, a, 1); }

inline F32x16 splat(float x) noexcept { return {_mm512_set1_ps(x)}; }

inline I32x16 splat(std::int32_t x) noexcept { return {_mm512_set1_epi32(x)}; }

inline F32x16 load(float const* p) noexcept { return {_mm512_loadu_ps(p)}; }

inline F32x16 load8(float const* p) noexcept { return {_mm512_maskz_loadu_ps(0x00FF, p)}; }

inline F32x16 load_first(float const* p, int n, float fill) noexcept {
  return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(n), p)};
}

inline void store(float* p, F32x16 a) noexcept { _mm512_storeu_ps(p, a.v); }

inline void store8(float* p, F32x16 a) noexcept { _mm256_storeu_ps(p, low_lanes(a.v)); }

inline void store_first(float* p, F32x16 a, int n) noexcept {
  _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}

inline I32x16 load(std::int32_t const* p) noexcept { return {_mm512_loadu_si512(p)}; }

inline void store(std::int32_t* p, I32x16 a) noexcept { _mm512_storeu_si512(p, a.v); }

inline I32x16 load_first(std::int32_t const* p, int n, std::int32_t fill) noexcept {
  return {_mm512_mask_loadu_epi32(_mm512_set1_epi32(fill), first_lanes(n), p)};
}

inline void store_first(std::int32_t* p, I32x16 a, int n) noexcept {
  _mm512_mask_storeu_epi32(p, first_lanes(n), a.v);
}

inline I32x16 load_line(void const* p) noexcept { return {_mm512_loadu_si512(p)}; }

inline I32x16 load_bytes(void const* p) noexcept {
  return {_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(static_cast<__m128i const*>(p)))};
}

inline I32x16 load_words(void const* p) noexcept {
  return {_mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_loadu_si256(static_cast<__m256i const*>(p)))};
}

inline I32x16 load_repeated_quad(void const* p) noexcept {
  return {_mm512_maskz_broadcast_i32x4(0xFFFF, _mm_loadu_si128(static_cast<__m128i const*>(p)))};
}

inline I32x16 load_repeated_half(void const* p) noexcept {
  return {_mm512_maskz_broadcast_i64x4(0xFF, _mm256_loadu_si256(static_cast<__m256i const*>(p)))};
}

inline I32x16 load_quads(void const* a, void const* b, void const* c, void const* d) noexcept {
  auto const get = [](void const* p) { return _mm_loadu_si128(static_cast<__m128i const*>(p)); };
  __m256i const ab = _mm256_inserti128_si256(_mm256_castsi128_si256(get(a)), get(b), 1);
  __m256i const cd = _mm256_inserti128_si256(_mm256_castsi128_si256(get(c)), get(d), 1);
  return {_mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(ab), cd, 1)};
}

inline F32x16 load(Half const* p) noexcept {
  return {_mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<__m256i const*>(p)))};
}

inline __m256i load_half_line(void const* p) noexcept {
  return _mm256_castsi128_si256(_mm_loadu_si128(static_cast<__m128i const*>(p)));
}

inline F32x16 load8(Half const* p) noexcept {
  return {_mm512_maskz_cvtph_ps(0x00FF, load_half_line(p))};
}

inline F32x16 load(BFloat16 const* p) noexcept {
  __m256i const x = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(p));
  return {_mm512_castsi512_ps(
      _mm512_maskz_slli_epi32(0xFFFF, _mm512_maskz_cvtepu16_epi32(0xFFFF, x), 16))};
}

inline F32x16 load8(BFloat16 const* p) noexcept {
  return {_mm512_castsi512_ps(
      _mm512_maskz_slli_epi32(0xFFFF, _mm512_maskz_cvtepu16_epi32(0x00FF, load_half_line(p)), 16))};
}

inline void store_rounded(Half* p, F32x16 a) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_maskz_cvtps_ph(0xFFFF, a.v, _MM_FROUND_TO_NEAREST_INT));
}

inline F32x16 add(F32x16 a, F32x16 b) noexcept { return {_mm512_add_ps(a.v, b.v)}; }

inline F32x16 sub(F32x16 a, F32x16 b) noexcept { return {_mm512_sub_ps(a.v, b.v)}; }

inline F32x16 mul(F32x16 a, F32x16 b) noexcept { return {_mm512_mul_ps(a.v, b.v)}; }

inline F32x16 div(F32x16 a, F32x16 b) noexcept { return {_mm512_div_ps(a.v, b.v)}; }

inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) noexcept {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

inline F32x16 max(F32x16 a, F32x16 b) noexcept { return {_mm512_maskz_max_ps(0xFFFF, a.v, b.v)}; }

inline F32x16 min(F32x16 a, F32x16 b) noexcept { return {_mm512_maskz_min_ps(0xFFFF, a.v, b.v)}; }

inline F32x16 abs(F32x16 a) noexcept {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7FFFFFFF)))};
}

inline I32x16 add(I32x16 a, I32x16 b) noexcept { return {_mm512_add_epi32(a.v, b.v)}; }

inline I32x16 sub(I32x16 a, I32x16 b) noexcept { return {_mm512_sub_epi32(a.v, b.v)}; }

inline I32x16 both(I32x16 a, I32x16 b) noexcept { return {_mm512_and_si512(a.v, b.v)}; }

inline I32x16 either(I32x16 a, I32x16 b) noexcept { return {_mm512_or_si512(a.v, b.v)}; }

inline I32x16 max(I32x16 a, I32x16 b) noexcept {
  return {_mm512_maskz_max_epi32(0xFFFF, a.v, b.v)};
}

template <int N>
I32x16 shift_left(I32x16 a) noexcept {
  return {_mm512_maskz_slli_epi32(0xFFFF, a.v, N)};
}

template <int N>
I32x16 shift_right(I32x16 a) noexcept {
  return {_mm512_maskz_srli_epi32(0xFFFF, a.v, N)};
}

inline I32x16 shift_right(I32x16 a, I32x16 n) noexcept {
  return {_mm512_maskz_srlv_epi32(0xFFFF, a.v, n.v)};
}

template <int N>
I32x16 shift_right_signed(I32x16 a) noexcept {
  return {_mm512_maskz_srai_epi32(0xFFFF, a.v, N)};
}

inline F32x16 lookup(F32x16 table, I32x16 index) noexcept {
  return {_mm512_maskz_permutexvar_ps(0xFFFF, index.v, table.v)};
}

inline I32x16 as_ints(F32x16 a) noexcept { return {_mm512_castps_si512(a.v)}; }

inline F32x16 as_floats(I32x16 a) noexcept { return {_mm512_castsi512_ps(a.v)}; }

inline F32x16 to_floats(I32x16 a) noexcept { return {_mm512_maskz_cvtepi32_ps(0xFFFF, a.v)}; }

inline I32x16 rounded(F32x16 a) noexcept { return {_mm512_maskz_cvtps_epi32(0xFFFF, a.v)}; }

inline I32x16 truncated(F32x16 a) noexcept { return {_mm512_maskz_cvttps_epi32(0xFFFF, a.v)}; }

inline Mask16 less(F32x16 a, F32x16 b) noexcept {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}

inline Mask16 unordered(F32x16 a) noexcept { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }

inline Mask16 less(I32x16 a, I32x16 b) noexcept { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }

inline F32x16 select(Mask16 m, F32x16 a, F32x16 b) noexcept {
  return {_mm512_mask_blend_ps(m.m, b.v, a.v)};
}

inline I32x16 select(Mask16 m, I32x16 a, I32x16 b) noexcept {
  return {_mm512_mask_blend_epi32(m.m, b.v, a.v)};
}

inline bool any(Mask16 m) noexcept { return m.m != 0; }

inline void store_bytes(void* p, I32x16 a) noexcept {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xFFFF, a.v));
}

inline void store_words(void* p, I32x16 a) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(0xFFFF, a.v));
}

inline I32x16 pack_bytes(I32x16 a, I32x16 b, I32x16 c, I32x16 d) noexcept {
  __m512i const ab = _mm512_packs_epi32(a.v, b.v);
  __m512i const cd = _mm512_packs_epi32(c.v, d.v);
  __m512i const order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return {_mm512_maskz_permutexvar_epi32(0xFFFF, order, _mm512_packs_epi16(ab, cd))};
}

inline void store_line(void* p, I32x16 a) noexcept { _mm512_storeu_si512(p, a.v); }

/// Whether dot_bytes is no dearer for whole bytes than for small codes.
#if defined(__AVX512VNNI__)
inline constexpr bool dots_whole_bytes = true;
#else
inline constexpr bool dots_whole_bytes = false;
#endif

template <int MaxCode>
I32x16 dot_bytes(I32x16 sum, I32x16 codes, I32x16 weights) noexcept {
#if defined(__AVX512VNNI__)
  return {_mm512_dpbusd_epi32(sum.v, codes.v, weights.v)};
#else
  __m512i products;
  if constexpr (2 * MaxCode * 127 <= 32767) {
    products = _mm512_madd_epi16(_mm512_maddubs_epi16(codes.v, weights.v), _mm512_set1_epi16(1));
  } else {
    __m512i const even = _mm512_madd_epi16(_mm512_and_si512(codes.v, _mm512_set1_epi16(0xFF)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(weights.v, 8), 8));
    __m512i const odd =
        _mm512_madd_epi16(_mm512_srli_epi16(codes.v, 8), _mm512_srai_epi16(weights.v, 8));
    products = _mm512_add_epi32(even, odd);
  }
  return {_mm512_add_epi32(sum.v, products)};
#endif
}

inline F32x16 reduce_to_quads(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  __mmask16 const all = 0xFFFF;
  __m512 const ab = _mm512_add_ps(_mm512_maskz_shuffle_f32x4(all, a.v, b.v, 0x44),
                                  _mm512_maskz_shuffle_f32x4(all, a.v, b.v, 0xEE));
  __m512 const cd = _mm512_add_ps(_mm512_maskz_shuffle_f32x4(all, c.v, d.v, 0x44),
                                  _mm512_maskz_shuffle_f32x4(all, c.v, d.v, 0xEE));
  return {_mm512_add_ps(_mm512_maskz_shuffle_f32x4(all, ab, cd, 0x88),
                        _mm512_maskz_shuffle_f32x4(all, ab, cd, 0xDD))};
}

inline F32x16 reduce_quads(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  __m512 const ab =
      _mm512_add_ps(_mm512_shuffle_ps(a.v, b.v, 0x44), _mm512_shuffle_ps(a.v, b.v, 0xEE));
  __m512 const cd =
      _mm512_add_ps(_mm512_shuffle_ps(c.v, d.v, 0x44), _mm512_shuffle_ps(c.v, d.v, 0xEE));
  return {_mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xDD))};
}

inline I32x16 reduce_to_quads(I32x16 a, I32x16 b, I32x16 c, I32x16 d) noexcept {
  __mmask16 const all = 0xFFFF;
  __m512i const ab = _mm512_add_epi32(_mm512_maskz_shuffle_i32x4(all, a.v, b.v, 0x44),
                                      _mm512_maskz_shuffle_i32x4(all, a.v, b.v, 0xEE));
  __m512i const cd = _mm512_add_epi32(_mm512_maskz_shuffle_i32x4(all, c.v, d.v, 0x44),
                                      _mm512_maskz_shuffle_i32x4(all, c.v, d.v, 0xEE));
  return {_mm512_add_epi32(_mm512_maskz_shuffle_i32x4(all, ab, cd, 0x88),
                           _mm512_maskz_shuffle_i32x4(all, ab, cd, 0xDD))};
}

template <int Lanes>
I32x16 shuffle_quads(I32x16 a, I32x16 b) noexcept {
  return {_mm512_castps_si512(
      _mm512_shuffle_ps(_mm512_castsi512_ps(a.v), _mm512_castsi512_ps(b.v), Lanes))};
}

inline I32x16 evens(I32x16 a, I32x16 b) noexcept { return shuffle_quads<0x88>(a, b); }

inline I32x16 odds(I32x16 a, I32x16 b) noexcept { return shuffle_quads<0xDD>(a, b); }

template <bool Small>
I32x16 add_pairs(I32x16 a, I32x16 b) noexcept {
  if constexpr (Small) {  // two instructions against three
    return {_mm512_madd_epi16(_mm512_packs_epi32(a.v, b.v), _mm512_set1_epi16(1))};
  } else {
    return add(evens(a, b), odds(a, b));
  }
}

inline F32x16 sums(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  F32x16 const four = reduce_to_quads(a, b, c, d);
  F32x16 const two = {_mm512_add_ps(four.v, _mm512_shuffle_ps(four.v, four.v, 0x4E))};
  return {_mm512_add_ps(two.v, _mm512_shuffle_ps(two.v, two.v, 0xB1))};
}

inline I32x16 sums(I32x16 a, I32x16 b, I32x16 c, I32x16 d) noexcept {
  I32x16 const four = reduce_to_quads(a, b, c, d);
  I32x16 const two = add(four, shuffle_quads<0x4E>(four, four));
  return add(two, shuffle_quads<0xB1>(two, two));
}

template <int Lower, int Upper>
F32x16 larger_halves(F32x16 a, F32x16 b) noexcept {
  return max(F32x16{_mm512_maskz_shuffle_f32x4(0xFFFF, a.v, b.v, Lower)},
             F32x16{_mm512_maskz_shuffle_f32x4(0xFFFF, a.v, b.v, Upper)});
}

inline F32x16 largest(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  F32x16 const four =
      larger_halves<0x88, 0xDD>(larger_halves<0x44, 0xEE>(a, b), larger_halves<0x44, 0xEE>(c, d));
  F32x16 const two = max(four, F32x16{_mm512_shuffle_ps(four.v, four.v, 0x4E)});
  return max(two, F32x16{_mm512_shuffle_ps(two.v, two.v, 0xB1)});
}

template <int Quad>
F32x16 splat_quad(F32x16 a) noexcept {
  return {_mm512_maskz_shuffle_f32x4(0xFFFF, a.v, a.v, Quad * 0x55)};
}

inline float sum(F32x16 a) noexcept {
  __m256 const eight = _mm256_add_ps(low_lanes(a.v), high_lanes(a.v));
  __m128 const four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 const two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest(F32x16 a) noexcept {
  __m256 const eight = _mm256_max_ps(low_lanes(a.v), high_lanes(a.v));
  __m128 const four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 const two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/// Sixteen doubles.
struct F64x16 {
  __m512d lo, hi;
};

inline F64x16 splat(double x) noexcept { return {_mm512_set1_pd(x), _mm512_set1_pd(x)}; }

inline F64x16 add(F64x16 a, F64x16 b) noexcept {
  return {_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)};
}

inline F64x16 fma(F64x16 a, F64x16 b, F64x16 c) noexcept {
  return {_mm512_fmadd_pd(a.lo, b.lo, c.lo), _mm512_fmadd_pd(a.hi, b.hi, c.hi)};
}

inline F64x16 to_doubles(F32x16 a) noexcept {
  return {_mm512_maskz_cvtps_pd(0xFF, low_lanes(a.v)),
          _mm512_maskz_cvtps_pd(0xFF, high_lanes(a.v))};
}

inline void store(double* p, F64x16 a) noexcept {
  _mm512_storeu_pd(p, a.lo);
  _mm512_storeu_pd(p + 8, a.hi);
}

}  // namespace kvfreeze::host::inline avx512
#endif
