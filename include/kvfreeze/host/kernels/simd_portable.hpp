#pragma once

/// @file
/// @brief Standard C++ version of `simd.hpp`, which documents it. The definition of what the other
/// versions must give.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/isa.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(KVFREEZE_ISA_PORTABLE)

namespace kvfreeze::host::inline portable {

inline constexpr int head_group = 4;  // heads that are worked on together

struct F32x16 {
  float v[16];
};

struct I32x16 {
  std::int32_t v[16];
};

struct Mask16 {
  bool v[16];
};

template <class V, class F>
V lanes(F f) noexcept {
  V out;
  for (int i = 0; i < 16; ++i) {
    out.v[i] = f(i);
  }
  return out;
}

inline F32x16 splat(float x) noexcept {
  return lanes<F32x16>([=](int) { return x; });
}

inline I32x16 splat(std::int32_t x) noexcept {
  return lanes<I32x16>([=](int) { return x; });
}

template <Element T>
F32x16 load(T const* p) noexcept {
  return lanes<F32x16>([=](int i) { return to_float(p[i]); });
}

template <Element T>
F32x16 load8(T const* p) noexcept {
  return lanes<F32x16>([=](int i) { return i < 8 ? to_float(p[i]) : 0.0F; });
}

inline F32x16 load_first(float const* p, int n, float fill) noexcept {
  return lanes<F32x16>([=](int i) { return i < n ? p[i] : fill; });
}

inline void store(float* p, F32x16 const& a) noexcept { std::memcpy(p, a.v, sizeof a.v); }

inline void store8(float* p, F32x16 const& a) noexcept { std::memcpy(p, a.v, sizeof a.v / 2); }

inline void store_first(float* p, F32x16 const& a, int n) noexcept {
  std::memcpy(p, a.v, static_cast<std::size_t>(n) * sizeof(float));
}

inline I32x16 load_line(void const* p) noexcept {
  I32x16 out;
  std::memcpy(out.v, p, sizeof out.v);
  return out;
}

inline I32x16 load(std::int32_t const* p) noexcept { return load_line(p); }

inline void store(std::int32_t* p, I32x16 const& a) noexcept { std::memcpy(p, a.v, sizeof a.v); }

inline I32x16 load_first(std::int32_t const* p, int n, std::int32_t fill) noexcept {
  return lanes<I32x16>([=](int i) { return i < n ? p[i] : fill; });
}

inline void store_first(std::int32_t* p, I32x16 const& a, int n) noexcept {
  std::memcpy(p, a.v, static_cast<std::size_t>(n) * sizeof(std::int32_t));
}

inline I32x16 load_bytes(void const* p) noexcept {
  return lanes<I32x16>([=](int i) { return static_cast<std::uint8_t const*>(p)[i]; });
}

inline I32x16 load_words(void const* p) noexcept {
  std::uint16_t words[16];
  std::memcpy(words, p, sizeof words);
  return lanes<I32x16>([&](int i) { return words[i]; });
}

inline I32x16 load_quads(void const* a, void const* b, void const* c, void const* d) noexcept {
  I32x16 out;
  std::memcpy(out.v, a, 16);
  std::memcpy(out.v + 4, b, 16);
  std::memcpy(out.v + 8, c, 16);
  std::memcpy(out.v + 12, d, 16);
  return out;
}

inline I32x16 load_repeated_quad(void const* p) noexcept { return load_quads(p, p, p, p); }

inline I32x16 load_repeated_half(void const* p) noexcept {
  auto const* const upper = static_cast<std::byte const*>(p) + 16;
  return load_quads(p, upper, p, upper);
}

inline void store_rounded(Half* p, F32x16 const& a) noexcept {
  for (int i = 0; i < 16; ++i) {
    p[i] = from_float<Half>(a.v[i]);
  }
}

inline F32x16 add(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[i] + b.v[i]; });
}

inline F32x16 sub(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[i] - b.v[i]; });
}

inline F32x16 mul(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[i] * b.v[i]; });
}

inline F32x16 div(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[i] / b.v[i]; });
}

inline F32x16 fma(F32x16 const& a, F32x16 const& b, F32x16 const& c) noexcept {
  return lanes<F32x16>([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}

inline F32x16 max(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}

inline F32x16 min(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}

inline F32x16 abs(F32x16 const& a) noexcept {
  return lanes<F32x16>([&](int i) { return std::fabs(a.v[i]); });
}

/// Integer lanes wrap.
template <class F>
I32x16 wrapping(F f) noexcept {
  return lanes<I32x16>([&](int i) { return static_cast<std::int32_t>(f(i)); });
}

inline std::uint32_t bits_of(std::int32_t x) noexcept { return static_cast<std::uint32_t>(x); }

inline I32x16 add(I32x16 const& a, I32x16 const& b) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) + bits_of(b.v[i]); });
}

inline I32x16 sub(I32x16 const& a, I32x16 const& b) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) - bits_of(b.v[i]); });
}

inline I32x16 both(I32x16 const& a, I32x16 const& b) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) & bits_of(b.v[i]); });
}

inline I32x16 either(I32x16 const& a, I32x16 const& b) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) | bits_of(b.v[i]); });
}

inline I32x16 max(I32x16 const& a, I32x16 const& b) noexcept {
  return lanes<I32x16>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}

template <int N>
I32x16 shift_left(I32x16 const& a) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) << N; });
}

template <int N>
I32x16 shift_right(I32x16 const& a) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) >> N; });
}

inline I32x16 shift_right(I32x16 const& a, I32x16 const& n) noexcept {
  return wrapping([&](int i) { return bits_of(a.v[i]) >> n.v[i]; });
}

template <int N>
I32x16 shift_right_signed(I32x16 const& a) noexcept {
  return lanes<I32x16>([&](int i) { return a.v[i] >> N; });
}

inline F32x16 lookup(F32x16 const& table, I32x16 const& index) noexcept {
  return lanes<F32x16>([&](int i) { return table.v[index.v[i] & 15]; });
}

inline I32x16 as_ints(F32x16 const& a) noexcept { return std::bit_cast<I32x16>(a); }

inline F32x16 as_floats(I32x16 const& a) noexcept { return std::bit_cast<F32x16>(a); }

inline F32x16 to_floats(I32x16 const& a) noexcept {
  return lanes<F32x16>([&](int i) { return static_cast<float>(a.v[i]); });
}

inline I32x16 rounded(F32x16 const& a) noexcept {
  return lanes<I32x16>([&](int i) {
    // Below 2^22 the sum with 1.5 * 2^23 has the integer, nearest even, in its low bits.
    return std::fabs(a.v[i]) < 0x1p22F
               ? std::bit_cast<std::int32_t>(a.v[i] + 0x1.8p23F) - 0x4B400000
               : static_cast<std::int32_t>(std::nearbyint(a.v[i]));
  });
}

inline I32x16 truncated(F32x16 const& a) noexcept {
  return lanes<I32x16>([&](int i) { return static_cast<std::int32_t>(a.v[i]); });
}

inline Mask16 less(F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<Mask16>([&](int i) { return a.v[i] < b.v[i]; });
}

inline Mask16 unordered(F32x16 const& a) noexcept {
  return lanes<Mask16>([&](int i) { return std::isnan(a.v[i]); });
}

inline Mask16 less(I32x16 const& a, I32x16 const& b) noexcept {
  return lanes<Mask16>([&](int i) { return a.v[i] < b.v[i]; });
}

inline F32x16 select(Mask16 const& m, F32x16 const& a, F32x16 const& b) noexcept {
  return lanes<F32x16>([&](int i) { return m.v[i] ? a.v[i] : b.v[i]; });
}

inline I32x16 select(Mask16 const& m, I32x16 const& a, I32x16 const& b) noexcept {
  return lanes<I32x16>([&](int i) { return m.v[i] ? a.v[i] : b.v[i]; });
}

inline bool any(Mask16 const& m) noexcept {
  bool found = false;
  for (bool const lane : m.v) {
    found |= lane;
  }
  return found;
}

inline void store_bytes(void* p, I32x16 const& a) noexcept {
  for (int i = 0; i < 16; ++i) {
    static_cast<std::uint8_t*>(p)[i] = static_cast<std::uint8_t>(a.v[i]);
  }
}

inline void store_words(void* p, I32x16 const& a) noexcept {
  std::uint16_t words[16];
  for (int i = 0; i < 16; ++i) {
    words[i] = static_cast<std::uint16_t>(a.v[i]);
  }
  std::memcpy(p, words, sizeof words);
}

inline I32x16 pack_bytes(I32x16 const& a, I32x16 const& b, I32x16 const& c,
                         I32x16 const& d) noexcept {
  I32x16 const* const parts[4] = {&a, &b, &c, &d};
  std::int8_t bytes[64];
  for (int i = 0; i < 64; ++i) {
    std::int32_t const x = parts[i / 16]->v[i % 16];
    bytes[i] = static_cast<std::int8_t>(x < -128 ? -128 : (x > 127 ? 127 : x));
  }
  return load_line(bytes);
}

inline void store_line(void* p, I32x16 const& a) noexcept { std::memcpy(p, a.v, sizeof a.v); }

/// Whether dot_bytes is no dearer for whole bytes than for small codes.
inline constexpr bool dots_whole_bytes = true;

template <int MaxCode>
I32x16 dot_bytes(I32x16 const& sum, I32x16 const& codes, I32x16 const& weights) noexcept {
  return lanes<I32x16>([&](int i) {
    std::int32_t total = sum.v[i];
    for (int j = 0; j < 32; j += 8) {
      total += static_cast<std::int32_t>((bits_of(codes.v[i]) >> j) & 0xFFU) *
               static_cast<std::int8_t>(bits_of(weights.v[i]) >> j);
    }
    return total;
  });
}

inline F32x16 reduce_to_quads(F32x16 const& a, F32x16 const& b, F32x16 const& c,
                              F32x16 const& d) noexcept {
  F32x16 const* const rows[4] = {&a, &b, &c, &d};
  return lanes<F32x16>([&](int i) {
    float const* const x = rows[i / 4]->v;
    int const j = i % 4;
    return (x[j] + x[j + 8]) + (x[j + 4] + x[j + 12]);
  });
}

inline F32x16 reduce_quads(F32x16 const& a, F32x16 const& b, F32x16 const& c,
                           F32x16 const& d) noexcept {
  F32x16 const* const rows[4] = {&a, &b, &c, &d};
  return lanes<F32x16>([&](int i) {
    float const* const x = rows[i % 4]->v + i / 4 * 4;
    return (x[0] + x[2]) + (x[1] + x[3]);
  });
}

inline I32x16 reduce_to_quads(I32x16 const& a, I32x16 const& b, I32x16 const& c,
                              I32x16 const& d) noexcept {
  I32x16 const* const rows[4] = {&a, &b, &c, &d};
  return wrapping([&](int i) {
    std::int32_t const* const x = rows[i / 4]->v + i % 4;
    return bits_of(x[0]) + bits_of(x[4]) + bits_of(x[8]) + bits_of(x[12]);
  });
}

inline I32x16 evens(I32x16 const& a, I32x16 const& b) noexcept {
  return lanes<I32x16>([&](int i) { return (i % 4 < 2 ? a : b).v[i / 4 * 4 + i % 2 * 2]; });
}

inline I32x16 odds(I32x16 const& a, I32x16 const& b) noexcept {
  return lanes<I32x16>([&](int i) { return (i % 4 < 2 ? a : b).v[i / 4 * 4 + i % 2 * 2 + 1]; });
}

template <bool Small>
I32x16 add_pairs(I32x16 const& a, I32x16 const& b) noexcept {
  return add(evens(a, b), odds(a, b));
}

inline float sum(F32x16 a) noexcept {
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) {
      a.v[i] += a.v[i + n];
    }
  }
  return a.v[0];
}

inline float largest(F32x16 a) noexcept {
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) {
      a.v[i] = a.v[i] > a.v[i + n] ? a.v[i] : a.v[i + n];
    }
  }
  return a.v[0];
}

inline F32x16 sums(F32x16 const& a, F32x16 const& b, F32x16 const& c, F32x16 const& d) noexcept {
  float const each[4] = {sum(a), sum(b), sum(c), sum(d)};
  return lanes<F32x16>([&](int i) { return each[i / 4]; });
}

inline I32x16 sums(I32x16 const& a, I32x16 const& b, I32x16 const& c, I32x16 const& d) noexcept {
  I32x16 const four = reduce_to_quads(a, b, c, d);
  return wrapping([&](int i) {
    std::int32_t const* const x = four.v + i / 4 * 4;
    return bits_of(x[0]) + bits_of(x[1]) + bits_of(x[2]) + bits_of(x[3]);
  });
}

inline F32x16 largest(F32x16 const& a, F32x16 const& b, F32x16 const& c, F32x16 const& d) noexcept {
  float const each[4] = {largest(a), largest(b), largest(c), largest(d)};
  return lanes<F32x16>([&](int i) { return each[i / 4]; });
}

template <int Quad>
F32x16 splat_quad(F32x16 const& a) noexcept {
  return lanes<F32x16>([&](int i) { return a.v[4 * Quad + i % 4]; });
}

/// Sixteen doubles.
struct F64x16 {
  double v[16];
};

inline F64x16 splat(double x) noexcept {
  return lanes<F64x16>([=](int) { return x; });
}

inline F64x16 add(F64x16 const& a, F64x16 const& b) noexcept {
  return lanes<F64x16>([&](int i) { return a.v[i] + b.v[i]; });
}

inline F64x16 fma(F64x16 const& a, F64x16 const& b, F64x16 const& c) noexcept {
  return lanes<F64x16>([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}

inline F64x16 to_doubles(F32x16 const& a) noexcept {
  return lanes<F64x16>([&](int i) { return static_cast<double>(a.v[i]); });
}

inline void store(double* p, F64x16 const& a) noexcept { std::memcpy(p, a.v, sizeof a.v); }

}  // namespace kvfreeze::host::inline portable
#endif
