#pragma once

/// @file
/// @brief Rows of no meaning, for benchmarks that only read them.

#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::bench {

/// Numbers in [1/2, 1) of either sign: bit patterns that are all finite.
__global__ __attribute__((visibility("hidden"))) void random_words_kernel(Span<std::uint32_t> words,
                                                                          std::uint32_t seed) {
  std::size_t const step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < words.size(); i += step) {
    std::uint32_t x = (static_cast<std::uint32_t>(i) ^ seed) * 0x9E3779B9U;
    x = (x ^ (x >> 15U)) * 0x85EBCA6BU;
    x ^= x >> 13U;
    words[i] = (x & 0x83FF83FFU) | 0x38003800U;
  }
}

/// An array of such numbers, two of 16 bits in each word.
inline DeviceArray<std::uint32_t> random_words(std::size_t count, std::uint32_t seed) {
  DeviceArray<std::uint32_t> words(count);
  random_words_kernel<<<1024, 256>>>(words.span(), seed);
  check_launch("random_words_kernel");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return words;
}

}  // namespace kvfreeze::gpu::bench
