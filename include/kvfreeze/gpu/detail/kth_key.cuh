#pragma once

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief The k-th smallest of n keys, found bit by bit. By one block.
/// @param k in [1, n]
/// @param key key(i), below 2^Bits; asked Bits times for each i
/// @complexity O(Bits * n / Threads)
template <int Threads, int Bits, class Key>
__device__ std::uint64_t kth_key(int n, int k, Key const& key) {
  std::uint64_t prefix = 0;
  for (int bit = Bits - 1; bit >= 0; --bit) {
    // Keys that agree with the prefix and have a 0 here come before those with a 1.
    int zeros = 0;
    for (int first = 0; first < n; first += Threads) {
      int const i = first + static_cast<int>(threadIdx.x);
      zeros += __syncthreads_count(i < n && key(i) >> bit == prefix << 1);
    }
    bool const one = k > zeros;
    k -= one ? zeros : 0;
    prefix = prefix << 1 | (one ? 1U : 0U);
  }
  return prefix;
}

}  // namespace kvfreeze::gpu::detail
