#pragma once

/// @file
/// @brief Four neighbours at a time: one access where they are aligned and all there, else one
/// each.

#include <kvfreeze/gpu/detail/global_memory.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

template <unsigned Bytes>
__device__ bool is_aligned(void const* p) {
  return (reinterpret_cast<std::uintptr_t>(p) & (Bytes - 1)) == 0;
}

/// Four neighbours as one access moves them.
template <class T>
struct FourOf;

template <>
struct FourOf<float> {
  using type = float4;
};

template <>
struct FourOf<std::uint32_t> {
  using type = uint4;
};

template <>
struct FourOf<std::uint16_t> {
  using type = ushort4;
};

/// p[0], ..., p[n - 1], n <= 4, `fill` behind them.
template <class T>
__device__ void load_four(T const* p, int n, T fill, T (&out)[4]) {
  using Vector = typename FourOf<T>::type;
  p = global(p);
  if (n == 4 && is_aligned<sizeof(Vector)>(p)) {
    Vector const x = *reinterpret_cast<Vector const*>(p);
    out[0] = x.x;
    out[1] = x.y;
    out[2] = x.z;
    out[3] = x.w;
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    out[j] = j < n ? p[j] : fill;
  }
}

/// n <= 4 bytes from p on, the first in the lowest bits, 0 behind them.
__device__ inline std::uint32_t load_four(std::uint8_t const* p, int n) {
  p = global(p);
  if (n == 4 && is_aligned<4>(p)) {
    return *reinterpret_cast<std::uint32_t const*>(p);
  }
  std::uint32_t word = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    word |= j < n ? static_cast<std::uint32_t>(p[j]) << (8 * j) : 0U;
  }
  return word;
}

/// The first n <= 4 of them.
template <class T>
__device__ void store_four(T* p, T const (&x)[4], int n) {
  using Vector = typename FourOf<T>::type;
  p = global(p);
  if (n == 4 && is_aligned<sizeof(Vector)>(p)) {
    *reinterpret_cast<Vector*>(p) = {x[0], x[1], x[2], x[3]};
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (j < n) {
      p[j] = x[j];
    }
  }
}

/// Stores the n <= 4 lowest bytes of a word.
__device__ inline void store_four(std::uint8_t* p, std::uint32_t word, int n) {
  p = global(p);
  if (n == 4 && is_aligned<4>(p)) {
    *reinterpret_cast<std::uint32_t*>(p) = word;
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (j < n) {
      p[j] = static_cast<std::uint8_t>(word >> (8 * j));
    }
  }
}

/// Byte i of a word of four.
__device__ inline std::uint32_t byte_of(std::uint32_t word, int i) {
  return (word >> (8 * i)) & 0xFFU;
}

}  // namespace kvfreeze::gpu::detail
