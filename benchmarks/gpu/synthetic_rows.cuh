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

/// Where an element of many steps lies among those of one: [layers][sequences][heads][head_dim].
struct StepElement {
  std::uint32_t index;
  std::uint32_t step;

  /// @param part elements of a layer's sequence, or of all
  __device__ StepElement(std::uint32_t i, std::uint32_t part, std::uint32_t first,
                         std::uint32_t first_step)
      : index(first + i % part), step(first_step + i / part) {}
};

/// K or V of a step, or of a layer's sequence in several: [steps][part].
/// @param first of the part among a step's elements
__global__ __attribute__((visibility("hidden"))) void normal_rows_kernel(Span<Half> out,
                                                                         std::uint32_t part,
                                                                         std::uint32_t first,
                                                                         std::uint32_t seed,
                                                                         std::uint32_t step) {
  auto const i = static_cast<std::uint32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < out.size()) {
    StepElement const at(i, part, first, step);
    out[i] = from_float<Half>(normal_of(at.index ^ seed, at.step));
  }
}

/// Q likewise.
/// @param group query heads of a KV head
__global__ __attribute__((visibility("hidden"))) void queries_kernel(Span<Half> out,
                                                                     std::uint32_t part,
                                                                     std::uint32_t first,
                                                                     int head_dim, int group,
                                                                     std::uint32_t first_step) {
  auto const number = static_cast<std::uint32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (number < out.size()) {
    auto const [i, step] = StepElement(number, part, first, first_step);
    auto const dim = static_cast<std::uint32_t>(head_dim);
    std::uint32_t const kv_head = i / dim / static_cast<std::uint32_t>(group);
    std::uint32_t const shared = kv_head * dim + i % dim;
    // 0.7^2 + 0.7^2 = 1 of what stays for 64 steps, 0.95^2 + 0.32^2 = 1 of all.
    std::uint32_t const period = step / 64U;
    float const lasting =
        0.7071F * (normal_of(shared ^ 0x5000000U, period) + normal_of(i ^ 0x6000000U, period));
    float const fleeting = normal_of(i ^ 0x7000000U, step);
    out[number] = from_float<Half>(3.0F * (0.9487F * lasting + 0.3162F * fleeting));
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
    make(q_.span(), k_.span(), v_.span(), 0, 0, q_.size(), k_.size(), step_, stream);
    step_ += 1;
  }

  /// Rows of a layer's sequence from a step on: [steps][heads][head_dim].
  struct Chunk {
    DeviceArray<Half> q;
    DeviceArray<Half> k;
    DeviceArray<Half> v;

    Chunk(Shape const& shape, int steps)
        : q(elements(shape, steps, shape.query_heads) / static_cast<std::size_t>(shape.layers)),
          k(elements(shape, steps, shape.kv_heads) / static_cast<std::size_t>(shape.layers)),
          v(k.size()) {}
  };

  /// Enqueues the making of a chunk's first rows. @param steps at most the chunk's
  void make_chunk(Chunk const& chunk, int layer, int sequence, std::uint32_t step, int steps,
                  Stream const& stream) const {
    std::size_t const q = static_cast<std::size_t>(shape_.query_heads * shape_.head_dim);
    std::size_t const k = static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim);
    std::size_t const lane =
        static_cast<std::size_t>(layer) * sequences_of(k) + static_cast<std::size_t>(sequence);
    auto const rows = static_cast<std::size_t>(steps);
    make(chunk.q.span().first(rows * q), chunk.k.span().first(rows * k),
         chunk.v.span().first(rows * k), lane * q, lane * k, q, k, step, stream);
  }

  /// The next row is that of this step.
  void skip_to(std::uint32_t step) { step_ = step; }

  [[nodiscard]] Span<Half const> q(int layer) const { return part(q_, layer); }

  [[nodiscard]] Span<Half const> k(int layer) const { return part(k_, layer); }

  [[nodiscard]] Span<Half const> v(int layer) const { return part(v_, layer); }

 private:
  /// @param width elements of a layer's row
  [[nodiscard]] std::size_t sequences_of(std::size_t width) const {
    return k_.size() / static_cast<std::size_t>(shape_.layers) / width;
  }

  void make(Span<Half> q, Span<Half> k, Span<Half> v, std::size_t first_q, std::size_t first_k,
            std::size_t part_q, std::size_t part_k, std::uint32_t step,
            Stream const& stream) const {
    constexpr unsigned threads = 256;
    auto const blocks = [](Span<Half> of) {
      return static_cast<unsigned>((of.size() + threads - 1) / threads);
    };
    auto const word = [](std::size_t x) { return static_cast<std::uint32_t>(x); };
    queries_kernel<<<blocks(q), threads, 0, stream.get()>>>(
        q, word(part_q), word(first_q), shape_.head_dim, shape_.query_heads / shape_.kv_heads,
        step);
    check_launch("queries_kernel");
    normal_rows_kernel<<<blocks(k), threads, 0, stream.get()>>>(k, word(part_k), word(first_k),
                                                                0x1000000U, step);
    check_launch("normal_rows_kernel");
    normal_rows_kernel<<<blocks(v), threads, 0, stream.get()>>>(v, word(part_k), word(first_k),
                                                                0x2000000U, step);
    check_launch("normal_rows_kernel");
  }

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
