#pragma once

/// @file
/// @brief Q, K and V of a model that there is none of, whose attention mass lies as a real one's.
///
/// Keys, values and queries are normal, queries three times as long as keys: q.k / sqrt(head_dim)
/// is normal with a standard deviation of 3 nats, so that masses are log-normal. Of one head's rows
/// 17 % then hold 98 % of the mass and 0.7 % hold 70 %. Consecutive queries of a head correlate by
/// 0.9 for 64 steps, then they look for other rows; the query heads of a KV head correlate by 0.5.

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/types.hpp>

#include "harness.cuh"

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::bench {

/// About normal: the sum of three uniform numbers out of a hash.
__device__ inline float normal_of(std::uint32_t a, std::uint32_t b) {
  std::uint32_t x = (a * 0x9E3779B9U) ^ (b * 0x85EBCA6BU);
  x = (x ^ (x >> 15U)) * 0xC2B2AE35U;
  x = (x ^ (x >> 13U)) * 0x27D4EB2FU;
  x ^= x >> 16U;
  std::uint32_t const sum = (x & 1023U) + ((x >> 10U) & 1023U) + ((x >> 20U) & 1023U);
  return static_cast<float>(sum) * (2.0F / 1024.0F) - 3.0F + 3.0F / 1024.0F;
}

/// K or V of a step: [layers][sequences][kv_heads][head_dim].
__global__ __attribute__((visibility("hidden"))) void normal_rows_kernel(Span<Half> out,
                                                                         std::uint32_t seed,
                                                                         std::uint32_t step) {
  auto const i = static_cast<std::uint32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < out.size()) {
    out[i] = from_float<Half>(normal_of(i ^ seed, step));
  }
}

/// Q of a step: [layers][sequences][query_heads][head_dim].
/// @param group query heads of a KV head
__global__ __attribute__((visibility("hidden"))) void queries_kernel(Span<Half> out, int head_dim,
                                                                     int group,
                                                                     std::uint32_t step) {
  auto const i = static_cast<std::uint32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < out.size()) {
    auto const dim = static_cast<std::uint32_t>(head_dim);
    std::uint32_t const kv_head = i / dim / static_cast<std::uint32_t>(group);
    std::uint32_t const shared = kv_head * dim + i % dim;
    // 0.7^2 + 0.7^2 = 1 of what stays for 64 steps, 0.95^2 + 0.32^2 = 1 of all.
    std::uint32_t const period = step / 64U;
    float const lasting =
        0.7071F * (normal_of(shared ^ 0x5000000U, period) + normal_of(i ^ 0x6000000U, period));
    float const fleeting = normal_of(i ^ 0x7000000U, step);
    out[i] = from_float<Half>(3.0F * (0.9487F * lasting + 0.3162F * fleeting));
  }
}

/// @brief The newest row of every layer of a batch, on the device; another one at each next().
class SyntheticRows {
 public:
  SyntheticRows(Shape const& shape, int sequences)
      : shape_(shape),
        q_(elements(shape, sequences, shape.query_heads)),
        k_(elements(shape, sequences, shape.kv_heads)),
        v_(k_.size()) {}

  /// Enqueues the making of the next row.
  void next(Stream const& stream) {
    constexpr unsigned threads = 256;
    auto const blocks = [](DeviceArray<Half> const& of) {
      return static_cast<unsigned>((of.size() + threads - 1) / threads);
    };
    queries_kernel<<<blocks(q_), threads, 0, stream.get()>>>(
        q_.span(), shape_.head_dim, shape_.query_heads / shape_.kv_heads, step_);
    check_launch("queries_kernel");
    normal_rows_kernel<<<blocks(k_), threads, 0, stream.get()>>>(k_.span(), 0x1000000U, step_);
    check_launch("normal_rows_kernel");
    normal_rows_kernel<<<blocks(v_), threads, 0, stream.get()>>>(v_.span(), 0x2000000U, step_);
    check_launch("normal_rows_kernel");
    step_ += 1;
  }

  [[nodiscard]] Span<Half const> q(int layer) const { return part(q_, layer); }

  [[nodiscard]] Span<Half const> k(int layer) const { return part(k_, layer); }

  [[nodiscard]] Span<Half const> v(int layer) const { return part(v_, layer); }

 private:
  static std::size_t elements(Shape const& shape, int sequences, int heads) {
    return static_cast<std::size_t>(shape.layers) * static_cast<std::size_t>(sequences) *
           static_cast<std::size_t>(heads) * static_cast<std::size_t>(shape.head_dim);
  }

  [[nodiscard]] Span<Half const> part(DeviceArray<Half> const& all, int layer) const {
    std::size_t const size = all.size() / static_cast<std::size_t>(shape_.layers);
    return all.span().subspan(static_cast<std::size_t>(layer) * size, size);
  }

  Shape shape_;
  DeviceArray<Half> q_;
  DeviceArray<Half> k_;
  DeviceArray<Half> v_;
  std::uint32_t step_ = 0;
};

}  // namespace kvfreeze::gpu::bench
