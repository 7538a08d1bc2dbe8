#pragma once

#include <kvfreeze/element.hpp>

#include <cstddef>

namespace kvfreeze::gpu::detail {

inline constexpr unsigned merge_threads = 128;

/// @brief A warp for each head: it alone reads and writes the head's log-sum-exp, so that either
/// may be in place.
template <Element T>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(merge_threads) void merge_kernel(
    T const* out_a, float const* lse_a, float const* out_b, float const* lse_b, T* out, float* lse,
    unsigned heads, unsigned dim) {
  unsigned const head = blockIdx.x * (merge_threads / 32) + threadIdx.x / 32;
  if (head >= heads) {
    return;
  }
  float const left = lse_a[head];
  float const right = lse_b[head];
  float const largest = fmaxf(left, right);
  bool const some = largest > __uint_as_float(0xFF800000U);
  float const a = some ? expf(left - largest) : 0.0F;
  float const b = some ? expf(right - largest) : 0.0F;
  float const share = some ? __fdiv_rn(1.0F, a + b) : 0.0F;
  std::size_t const first = static_cast<std::size_t>(head) * dim;
  for (unsigned d = threadIdx.x % 32; d < dim; d += 32) {
    float const sum = a * to_float(out_a[first + d]) + b * out_b[first + d];
    out[first + d] = from_float<T>(sum * share);
  }
  __syncwarp();
  if (threadIdx.x % 32 == 0) {
    lse[head] = some ? largest + logf(a + b) : largest;
  }
}

}  // namespace kvfreeze::gpu::detail
