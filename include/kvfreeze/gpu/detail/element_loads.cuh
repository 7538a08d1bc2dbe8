#pragma once

/// @file
/// @brief Elements of K, V and digests as floats, one and four at a time.

#include <kvfreeze/element.hpp>

#include <cuda_runtime.h>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The value of an element by the hardware's conversion: to_float() in one instruction.
__device__ inline float widened(float x) { return x; }

__device__ inline float widened(BFloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

__device__ inline float widened(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

/// Four 16-bit elements of two words.
template <class T>
__device__ float4 widened_quad(uint2 words) {
  auto const element = [](unsigned bits) { return widened(T{static_cast<std::uint16_t>(bits)}); };
  return {element(words.x), element(words.x >> 16), element(words.y), element(words.y >> 16)};
}

/// Four elements; `p` must be aligned to four.
__device__ inline float4 load_quad(float const* p) { return *reinterpret_cast<float4 const*>(p); }

template <class T>
  requires(sizeof(T) == 2)
__device__ float4 load_quad(T const* p) {
  return widened_quad<T>(*reinterpret_cast<uint2 const*>(p));
}

}  // namespace kvfreeze::gpu::detail
