#pragma once

#include <kvfreeze/gpu/detail/ordered_chunk.cuh>
#include <kvfreeze/gpu/detail/row_loads.cuh>
#include <kvfreeze/gpu/logit_run.cuh>
#include <kvfreeze/gpu/threshold_list.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int list_chunk_threads = 256;
using ListChunk = OrderedChunk<list_chunk_threads>;

inline int list_chunks(int max_rows) {
  int const chunks = (max_rows + ListChunk::entries - 1) / ListChunk::entries;
  return chunks > 1 ? chunks : 1;
}

template <class Lists>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    list_chunk_threads) void list_at_least_kernel(Lists lists, int max_rows, std::uint32_t* cells,
                                                  std::uint32_t* counts) {
  __shared__ typename ListChunk::Storage storage;
  __shared__ std::uint32_t staged[ListChunk::entries];  // so that lists are written side by side
  __shared__ std::uint32_t earlier;
  auto const number = static_cast<int>(blockIdx.y);
  auto const chunk = static_cast<int>(blockIdx.x);
  int const begin = chunk * ListChunk::entries;
  ThresholdList const own = lists.list(number);
  int const rows = min(own.rows, max_rows);
  if (begin >= rows && chunk != 0) {
    return;
  }
  unsigned flags = 0;
#pragma unroll
  for (int s = 0; s < ListChunk::steps; ++s) {
    int const first = begin + ListChunk::entry(s);
    int const n = min(max(rows - first, 0), 4);
    std::uint32_t values[4];
    load_four(own.values + first, n, 0U, values);
    std::uint32_t const states = own.states == nullptr ? 0U : load_four(own.states + first, n);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      bool const in = own.states == nullptr ||
                      (byte_of(states, j) & LogitRun::state_bits) == LogitRun::taking_part;
      flags |= j < n && in && values[j] >= own.threshold ? 1U << (4 * s + j) : 0U;
    }
  }
  ListChunk const order(flags, storage);
  ChunkCounts const chunk_counts{cells + static_cast<std::size_t>(number) * gridDim.x};
  if (threadIdx.x == 0) {
    chunk_counts.publish(chunk, order.total);
  }
#pragma unroll
  for (int s = 0; s < ListChunk::steps; ++s) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (((flags >> (4 * s + j)) & 1U) != 0) {
        staged[order.rank(flags, s, j)] =
            static_cast<std::uint32_t>(begin + ListChunk::entry(s) + j);
      }
    }
  }
  if (threadIdx.x < 32) {
    std::uint32_t const sum = chunk_counts.before(chunk);
    if (threadIdx.x == 0) {
      earlier = sum;
    }
  }
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < order.total; i += list_chunk_threads) {
    global(own.list)[earlier + i] = staged[i];
  }
  bool const last = begin + ListChunk::entries >= rows;
  if (last && threadIdx.x == 0) {
    counts[number] = earlier + order.total;
  }
}

}  // namespace kvfreeze::gpu::detail
