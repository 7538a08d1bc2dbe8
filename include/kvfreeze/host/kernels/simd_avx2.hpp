#pragma once

/// @file
/// @brief AVX2 + FMA + F16C version of `simd.hpp`, which documents it.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/isa.hpp>

#include <array>
#include <cstdint>
#include <cstring>

#if defined(KVFREEZE_ISA_AVX2)
#include <immintrin.h>

namespace kvfreeze::host::inline avx2 {

inline constexpr int head_group = 2;  // heads whose accumulators share the registers

struct F32x16 {
  __m256 lo, hi;
};

struct I32x16 {
  __m256i lo, hi;
};

struct Mask16 {
  __m256 lo, hi;
};

inline F32x16 splat(float x) noexcept { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

inline I32x16 splat(std::int32_t x) noexcept {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

inline F32x16 load(float const* p) noexcept { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }

inline F32x16 load8(float const* p) noexcept { return {_mm256_loadu_ps(p), _mm256_setzero_ps()}; }

inline F32x16 load_first(float const* p, int n, float fill) noexcept {
  std::array<float, 16> lanes;
  lanes.fill(fill);
  std::memcpy(lanes.data(), p, static_cast<std::size_t>(n) * sizeof(float));
  return load(lanes.data());
}

inline void store(float* p, F32x16 a) noexcept {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}

inline void store8(float* p, F32x16 a) noexcept { _mm256_storeu_ps(p, a.lo); }

inline void store_first(float* p, F32x16 a, int n) noexcept {
  std::array<float, 16> lanes;
  store(lanes.data(), a);
  std::memcpy(p, lanes.data(), static_cast<std::size_t>(n) * sizeof(float));
}

inline I32x16 load_line(void const* p) noexcept {
  auto const* lines = static_cast<__m256i const*>(p);
  return {_mm256_loadu_si256(lines), _mm256_loadu_si256(lines + 1)};
}

inline I32x16 load(std::int32_t const* p) noexcept { return load_line(p); }

inline void store(std::int32_t* p, I32x16 a) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}

inline I32x16 load_first(std::int32_t const* p, int n, std::int32_t fill) noexcept {
  std::array<std::int32_t, 16> lanes;
  lanes.fill(fill);
  std::memcpy(lanes.data(), p, static_cast<std::size_t>(n) * sizeof(std::int32_t));
  return load(lanes.data());
}

inline void store_first(std::int32_t* p, I32x16 a, int n) noexcept {
  std::array<std::int32_t, 16> lanes;
  store(lanes.data(), a);
  std::memcpy(p, lanes.data(), static_cast<std::size_t>(n) * sizeof(std::int32_t));
}

inline __m128i load_half_line(void const* p) noexcept {
  return _mm_loadu_si128(static_cast<__m128i const*>(p));
}

inline I32x16 load_bytes(void const* p) noexcept {
  __m128i const bytes = load_half_line(p);
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}

inline I32x16 load_words(void const* p) noexcept {
  auto const* lines = static_cast<__m128i const*>(p);
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(lines)),
          _mm256_cvtepu16_epi32(_mm_loadu_si128(lines + 1))};
}

inline I32x16 load_repeated_quad(void const* p) noexcept {
  __m256i const twice = _mm256_broadcastsi128_si256(load_half_line(p));
  return {twice, twice};
}

inline I32x16 load_repeated_half(void const* p) noexcept {
  __m256i const half = _mm256_loadu_si256(static_cast<__m256i const*>(p));
  return {half, half};
}

inline I32x16 load_quads(void const* a, void const* b, void const* c, void const* d) noexcept {
  return {_mm256_set_m128i(load_half_line(b), load_half_line(a)),
          _mm256_set_m128i(load_half_line(d), load_half_line(c))};
}

inline F32x16 load(Half const* p) noexcept {
  return {_mm256_cvtph_ps(load_half_line(p)), _mm256_cvtph_ps(load_half_line(p + 8))};
}

inline F32x16 load8(Half const* p) noexcept {
  return {_mm256_cvtph_ps(load_half_line(p)), _mm256_setzero_ps()};
}

inline __m256 widened(__m128i x) noexcept {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

inline F32x16 load(BFloat16 const* p) noexcept {
  return {widened(load_half_line(p)), widened(load_half_line(p + 8))};
}

inline F32x16 load8(BFloat16 const* p) noexcept {
  return {widened(load_half_line(p)), _mm256_setzero_ps()};
}

inline void store_rounded(Half* p, F32x16 a) noexcept {
  auto* out = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(out, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(out + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}

inline F32x16 add(F32x16 a, F32x16 b) noexcept {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

inline F32x16 sub(F32x16 a, F32x16 b) noexcept {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

inline F32x16 mul(F32x16 a, F32x16 b) noexcept {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

inline F32x16 div(F32x16 a, F32x16 b) noexcept {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) noexcept {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

inline F32x16 max(F32x16 a, F32x16 b) noexcept {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

inline F32x16 min(F32x16 a, F32x16 b) noexcept {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

inline F32x16 abs(F32x16 a) noexcept {
  __m256 const magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return {_mm256_and_ps(a.lo, magnitude), _mm256_and_ps(a.hi, magnitude)};
}

inline I32x16 add(I32x16 a, I32x16 b) noexcept {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}

inline I32x16 sub(I32x16 a, I32x16 b) noexcept {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}

inline I32x16 both(I32x16 a, I32x16 b) noexcept {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}

inline I32x16 either(I32x16 a, I32x16 b) noexcept {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}

inline I32x16 max(I32x16 a, I32x16 b) noexcept {
  return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
}

template <int N>
I32x16 shift_left(I32x16 a) noexcept {
  return {_mm256_slli_epi32(a.lo, N), _mm256_slli_epi32(a.hi, N)};
}

template <int N>
I32x16 shift_right(I32x16 a) noexcept {
  return {_mm256_srli_epi32(a.lo, N), _mm256_srli_epi32(a.hi, N)};
}

inline I32x16 shift_right(I32x16 a, I32x16 n) noexcept {
  return {_mm256_srlv_epi32(a.lo, n.lo), _mm256_srlv_epi32(a.hi, n.hi)};
}

template <int N>
I32x16 shift_right_signed(I32x16 a) noexcept {
  return {_mm256_srai_epi32(a.lo, N), _mm256_srai_epi32(a.hi, N)};
}

inline __m256 lookup8(F32x16 table, __m256i index) noexcept {
  __m256 const high = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));  // bit 3 as the sign
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.lo, index),
                          _mm256_permutevar8x32_ps(table.hi, index), high);
}

inline F32x16 lookup(F32x16 table, I32x16 index) noexcept {
  return {lookup8(table, index.lo), lookup8(table, index.hi)};
}

inline I32x16 as_ints(F32x16 a) noexcept {
  return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)};
}

inline F32x16 as_floats(I32x16 a) noexcept {
  return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}

inline F32x16 to_floats(I32x16 a) noexcept {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}

inline I32x16 rounded(F32x16 a) noexcept {
  return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)};
}

inline I32x16 truncated(F32x16 a) noexcept {
  return {_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi)};
}

inline Mask16 less(F32x16 a, F32x16 b) noexcept {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}

inline Mask16 unordered(F32x16 a) noexcept {
  return {_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)};
}

inline Mask16 less(I32x16 a, I32x16 b) noexcept {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.lo, a.lo)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(b.hi, a.hi))};
}

inline F32x16 select(Mask16 m, F32x16 a, F32x16 b) noexcept {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}

inline I32x16 select(Mask16 m, I32x16 a, I32x16 b) noexcept {
  return as_ints(select(m, as_floats(a), as_floats(b)));
}

inline bool any(Mask16 m) noexcept { return _mm256_movemask_ps(_mm256_or_ps(m.lo, m.hi)) != 0; }

/// The low 16 bits of each lane, in order.
inline __m256i low_words(I32x16 a) noexcept {
  __m256i const mask = _mm256_set1_epi32(0xFFFF);
  __m256i const packed =
      _mm256_packus_epi32(_mm256_and_si256(a.lo, mask), _mm256_and_si256(a.hi, mask));
  return _mm256_permute4x64_epi64(packed, 0xD8);
}

inline void store_words(void* p, I32x16 a) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(p), low_words(a));
}

inline void store_bytes(void* p, I32x16 a) noexcept {
  __m256i const words = _mm256_and_si256(low_words(a), _mm256_set1_epi16(0xFF));
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_packus_epi16(_mm256_castsi256_si128(words),
                                                              _mm256_extracti128_si256(words, 1)));
}

inline __m256i pack_bytes(__m256i a, __m256i b, __m256i c, __m256i d) noexcept {
  __m256i const bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

inline I32x16 pack_bytes(I32x16 a, I32x16 b, I32x16 c, I32x16 d) noexcept {
  return {pack_bytes(a.lo, a.hi, b.lo, b.hi), pack_bytes(c.lo, c.hi, d.lo, d.hi)};
}

inline void store_line(void* p, I32x16 a) noexcept {
  auto* const lines = static_cast<__m256i*>(p);
  _mm256_storeu_si256(lines, a.lo);
  _mm256_storeu_si256(lines + 1, a.hi);
}

template <int MaxCode>
__m256i byte_products(__m256i codes, __m256i weights) noexcept {
  if constexpr (2 * MaxCode * 127 <= 32767) {  // two products fit in 16 bits
    return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, weights), _mm256_set1_epi16(1));
  } else {
    __m256i const even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xFF)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8));
    __m256i const odd =
        _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(weights, 8));
    return _mm256_add_epi32(even, odd);
  }
}

/// Whether dot_bytes is no dearer for whole bytes than for small codes.
inline constexpr bool dots_whole_bytes = false;

template <int MaxCode>
I32x16 dot_bytes(I32x16 sum, I32x16 codes, I32x16 weights) noexcept {
  return {_mm256_add_epi32(sum.lo, byte_products<MaxCode>(codes.lo, weights.lo)),
          _mm256_add_epi32(sum.hi, byte_products<MaxCode>(codes.hi, weights.hi))};
}

inline F32x16 reduce_to_quads(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  __m256 const a8 = _mm256_add_ps(a.lo, a.hi);
  __m256 const b8 = _mm256_add_ps(b.lo, b.hi);
  __m256 const c8 = _mm256_add_ps(c.lo, c.hi);
  __m256 const d8 = _mm256_add_ps(d.lo, d.hi);
  return {
      _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31)),
      _mm256_add_ps(_mm256_permute2f128_ps(c8, d8, 0x20), _mm256_permute2f128_ps(c8, d8, 0x31))};
}

inline __m256 reduce_quads(__m256 a, __m256 b, __m256 c, __m256 d) noexcept {
  __m256 const ab = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
  __m256 const cd = _mm256_add_ps(_mm256_shuffle_ps(c, d, 0x44), _mm256_shuffle_ps(c, d, 0xEE));
  return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x88), _mm256_shuffle_ps(ab, cd, 0xDD));
}

inline F32x16 reduce_quads(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  return {reduce_quads(a.lo, b.lo, c.lo, d.lo), reduce_quads(a.hi, b.hi, c.hi, d.hi)};
}

inline I32x16 reduce_to_quads(I32x16 a, I32x16 b, I32x16 c, I32x16 d) noexcept {
  auto const pair = [](I32x16 x, I32x16 y) {
    __m256i const x8 = _mm256_add_epi32(x.lo, x.hi);
    __m256i const y8 = _mm256_add_epi32(y.lo, y.hi);
    return _mm256_add_epi32(_mm256_permute2x128_si256(x8, y8, 0x20),
                            _mm256_permute2x128_si256(x8, y8, 0x31));
  };
  return {pair(a, b), pair(c, d)};
}

template <int Lanes>
__m256i shuffle_quads(__m256i a, __m256i b) noexcept {
  return _mm256_castps_si256(
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), Lanes));
}

template <int Lanes>
I32x16 shuffle_quads(I32x16 a, I32x16 b) noexcept {
  return {shuffle_quads<Lanes>(a.lo, b.lo), shuffle_quads<Lanes>(a.hi, b.hi)};
}

inline I32x16 evens(I32x16 a, I32x16 b) noexcept { return shuffle_quads<0x88>(a, b); }

inline I32x16 odds(I32x16 a, I32x16 b) noexcept { return shuffle_quads<0xDD>(a, b); }

template <bool Small>
I32x16 add_pairs(I32x16 a, I32x16 b) noexcept {
  if constexpr (Small) {  // two instructions against three
    __m256i const ones = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(_mm256_packs_epi32(a.lo, b.lo), ones),
            _mm256_madd_epi16(_mm256_packs_epi32(a.hi, b.hi), ones)};
  } else {
    return add(evens(a, b), odds(a, b));
  }
}

template <int Lanes>
F32x16 shuffle_quads(F32x16 a) noexcept {
  return {_mm256_shuffle_ps(a.lo, a.lo, Lanes), _mm256_shuffle_ps(a.hi, a.hi, Lanes)};
}

inline F32x16 sums(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  F32x16 const four = reduce_to_quads(a, b, c, d);
  F32x16 const two = add(four, shuffle_quads<0x4E>(four));
  return add(two, shuffle_quads<0xB1>(two));
}

inline I32x16 sums(I32x16 a, I32x16 b, I32x16 c, I32x16 d) noexcept {
  I32x16 const four = reduce_to_quads(a, b, c, d);
  I32x16 const two = add(four, shuffle_quads<0x4E>(four, four));
  return add(two, shuffle_quads<0xB1>(two, two));
}

inline F32x16 largest(F32x16 a, F32x16 b, F32x16 c, F32x16 d) noexcept {
  auto const pair = [](F32x16 x, F32x16 y) {
    __m256 const x8 = _mm256_max_ps(x.lo, x.hi);
    __m256 const y8 = _mm256_max_ps(y.lo, y.hi);
    return _mm256_max_ps(_mm256_permute2f128_ps(x8, y8, 0x20),
                         _mm256_permute2f128_ps(x8, y8, 0x31));
  };
  F32x16 const four = {pair(a, b), pair(c, d)};
  F32x16 const two = max(four, shuffle_quads<0x4E>(four));
  return max(two, shuffle_quads<0xB1>(two));
}

template <int Quad>
F32x16 splat_quad(F32x16 a) noexcept {
  __m256 const half = Quad < 2 ? a.lo : a.hi;
  __m256 const all = _mm256_permute2f128_ps(half, half, Quad % 2 * 0x11);
  return {all, all};
}

inline float sum(F32x16 a) noexcept {
  __m256 const eight = _mm256_add_ps(a.lo, a.hi);
  __m128 const four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 const two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest(F32x16 a) noexcept {
  __m256 const eight = _mm256_max_ps(a.lo, a.hi);
  __m128 const four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 const two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/// Sixteen doubles.
struct F64x16 {
  __m256d v[4];
};

inline F64x16 splat(double x) noexcept {
  __m256d const v = _mm256_set1_pd(x);
  return {{v, v, v, v}};
}

inline F64x16 add(F64x16 a, F64x16 b) noexcept {
  return {{_mm256_add_pd(a.v[0], b.v[0]), _mm256_add_pd(a.v[1], b.v[1]),
           _mm256_add_pd(a.v[2], b.v[2]), _mm256_add_pd(a.v[3], b.v[3])}};
}

inline F64x16 fma(F64x16 a, F64x16 b, F64x16 c) noexcept {
  return {{_mm256_fmadd_pd(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_pd(a.v[1], b.v[1], c.v[1]),
           _mm256_fmadd_pd(a.v[2], b.v[2], c.v[2]), _mm256_fmadd_pd(a.v[3], b.v[3], c.v[3])}};
}

inline F64x16 to_doubles(F32x16 a) noexcept {
  return {{_mm256_cvtps_pd(_mm256_castps256_ps128(a.lo)),
           _mm256_cvtps_pd(_mm256_extractf128_ps(a.lo, 1)),
           _mm256_cvtps_pd(_mm256_castps256_ps128(a.hi)),
           _mm256_cvtps_pd(_mm256_extractf128_ps(a.hi, 1))}};
}

inline void store(double* p, F64x16 a) noexcept {
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_pd(p + 4 * i, a.v[i]);
  }
}

}  // namespace kvfreeze::host::inline avx2
#endif
