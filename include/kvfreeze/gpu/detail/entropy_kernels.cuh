#pragma once

/// @file
/// @brief Entropy of softmax: the twin of host/kernels/entropy.hpp.
///
/// A row is cut into chunks, a block each: read from memory once into registers, highest, then
/// exponentials relative to it. Chunks are merged in order. Where a row is cut and who adds what
/// depends on its length only, neither on its address nor on the number of rows or processors: a
/// row gets the same bits in every batch.

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/exp2.cuh>
#include <kvfreeze/gpu/entropy_result.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/workspace.cuh>
#include <kvfreeze/host/kernels/exp2.hpp>
#include <kvfreeze/host/kernels/segments.hpp>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu::detail {

inline constexpr int entropy_threads = 256;
inline constexpr int entropy_warps = entropy_threads / 32;
inline constexpr int entropy_items = 16;  ///< logits of a thread
inline constexpr std::uint32_t entropy_chunk = entropy_threads * entropy_items;

/// What is known of some logits of a row.
struct LogitPartial {
  double sum;           ///< of e^(logit - highest)
  double weighted;      ///< of e^(logit - highest) * (logit - highest), nats
  float highest;        ///< +infinity if one of them is +infinity or NaN
  std::uint32_t first;  ///< index of the first that is `highest`, or NaN
};

static_assert(sizeof(Entropy) == 40);  // nothing between that nobody writes

struct EntropyTask {
  std::size_t row_length = 0;
  std::size_t rows = 0;
  std::uint32_t chunks = 0;          ///< of a row
  LogitPartial* partials = nullptr;  ///< [row][chunk], where there is more than one
  float const* means = nullptr;      ///< [row], or null
  Entropy* results = nullptr;        ///< [row]
};

__device__ inline float logit_infinity() { return __uint_as_float(0x7F800000U); }

/// Orders like the float, as unsigned; both zeros are one.
__device__ inline std::uint32_t logit_order(float x) {
  std::uint32_t const bits = __float_as_uint(x);
  std::uint32_t const ordered = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return bits == 0x80000000U ? 0x80000000U : ordered;
}

__device__ inline float logit_of_order(std::uint32_t order) {
  return __uint_as_float((order & 0x80000000U) != 0 ? order & 0x7FFFFFFFU : ~order);
}

/// @brief The 16 bytes that begin `skew` bytes behind the first of two neighbours.
/// @tparam T skew is a multiple of its size
template <class T>
__device__ uint4 shifted_16_bytes(uint4 const& low, uint4 const& high, std::uint32_t skew) {
  if (skew == 0) {
    return low;
  }
  // The words of both, moved down by 8 bytes, by 4, by 2.
  std::uint32_t w[7] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z};
  if ((skew & 8U) != 0) {
    w[0] = w[2];
    w[1] = w[3];
    w[2] = w[4];
    w[3] = w[5];
    w[4] = w[6];
    w[5] = high.w;
  }
  if ((skew & 4U) != 0) {
    w[0] = w[1];
    w[1] = w[2];
    w[2] = w[3];
    w[3] = w[4];
    w[4] = w[5];
  }
  if (sizeof(T) == 2 && (skew & 2U) != 0) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = __funnelshift_r(w[i], w[i + 1], 16);
    }
  }
  return {w[0], w[1], w[2], w[3]};
}

/// Element i of 16 bytes.
__device__ inline float unpack_logit(uint4 const& bytes, int i, float) {
  std::uint32_t const w = i == 0 ? bytes.x : i == 1 ? bytes.y : i == 2 ? bytes.z : bytes.w;
  return __uint_as_float(w);
}

template <class T>
__device__ float unpack_logit(uint4 const& bytes, int i, T) {
  std::uint32_t const w = i < 2 ? bytes.x : i < 4 ? bytes.y : i < 6 ? bytes.z : bytes.w;
  return widened(T{static_cast<std::uint16_t>(i % 2 == 0 ? w : w >> 16)});
}

/// @brief A thread's logits of a chunk; -infinity where there are none, +infinity for a NaN.
///
/// Vector v of thread t has elements (v * threads + t) * n + [0, n), n elements to 16 bytes.
template <class T>
struct LogitTile {
  static constexpr int per_load = 16 / sizeof(T);
  static constexpr int loads = entropy_items / per_load;

  float x[entropy_items];

  [[nodiscard]] static __device__ std::uint32_t place(int load) {
    return (static_cast<std::uint32_t>(load) * entropy_threads + threadIdx.x) * per_load;
  }

  /// @param logits of all rows
  /// @param begin of the chunk within them
  /// @param size elements of the chunk
  __device__ void load(Span<T const> logits, std::size_t begin, std::uint32_t size) {
    auto const all = reinterpret_cast<std::uintptr_t>(logits.data());
    std::uintptr_t const behind = all + logits.size() * sizeof(T);
    T const* const chunk = logits.data() + begin;
    auto const skew = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(chunk) % 16);
    uint4 low[loads];
    uint4 high[loads];
    bool whole[loads];
#pragma unroll
    for (int i = 0; i < loads; ++i) {  // all loads before the first use
      // By pointers: made of an integer, it would not be known for one to global memory.
      auto const* const words =
          reinterpret_cast<uint4 const*>(reinterpret_cast<char const*>(chunk + place(i)) - skew);
      auto const address = reinterpret_cast<std::uintptr_t>(words);
      // Logits of neighbours may be read along, but nothing outside the span.
      whole[i] = place(i) + per_load <= size && address >= all &&
                 (skew == 0 || address + 2 * sizeof(uint4) <= behind);
      low[i] = whole[i] ? words[0] : uint4{0, 0, 0, 0};
      high[i] = whole[i] && skew != 0 ? words[1] : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      uint4 const bytes = shifted_16_bytes<T>(low[i], high[i], skew);
#pragma unroll
      for (int j = 0; j < per_load; ++j) {
        std::uint32_t const at = place(i) + static_cast<std::uint32_t>(j);
        float value = unpack_logit(bytes, j, T{});
        if (!whole[i]) {
          value = at < size ? widened(chunk[at]) : -logit_infinity();
        }
        x[i * per_load + j] = value < logit_infinity() ? value : logit_infinity();
      }
    }
  }
};

struct EntropyStorage {
  std::uint32_t highest[entropy_warps];
  std::uint32_t first[entropy_warps];
  double sum[entropy_warps];
  double weighted[entropy_warps];
};

/// Sum over a warp, in the same order everywhere, for lane 0.
__device__ inline double warp_total(double x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x += __shfl_down_sync(0xFFFFFFFFU, x, distance);
  }
  return x;
}

/// Nats below which e^x is 0 as a float, and 0 * x is no NaN.
inline constexpr float entropy_lowest = -200.0F;

/// @brief One pass over a chunk. Called by the block; thread 0 gets the answer.
template <class T>
__device__ LogitPartial reduce_chunk(LogitTile<T> const& tile, std::uint32_t begin,
                                     EntropyStorage& shared) {
  constexpr int per_load = LogitTile<T>::per_load;
  float highest = tile.x[0];
#pragma unroll
  for (float const x : tile.x) {
    highest = fmaxf(highest, x);
  }
  std::uint32_t order = __reduce_max_sync(0xFFFFFFFFU, logit_order(highest));
  if (threadIdx.x % 32 == 0) {
    shared.highest[threadIdx.x / 32] = order;
  }
  __syncthreads();
  order = __reduce_max_sync(0xFFFFFFFFU, shared.highest[threadIdx.x % entropy_warps]);
  highest = logit_of_order(order);

  std::uint32_t first = 0xFFFFFFFFU;
  double sum = 0.0;
  double weighted = 0.0;
  // Of +infinity and -infinity there is nothing to add up.
  float const origin = fabsf(highest) < logit_infinity() ? highest : 0.0F;
#pragma unroll
  for (int i = entropy_items - 4; i >= 0; i -= 4) {
    float weights[4];
    float distances[4];
#pragma unroll
    for (int j = 3; j >= 0; --j) {
      float const x = tile.x[i + j];
      std::uint32_t const at =
          LogitTile<T>::place((i + j) / per_load) + static_cast<std::uint32_t>((i + j) % per_load);
      first = x == highest ? at : first;
      distances[j] = fminf(fmaxf(x - origin, entropy_lowest), 0.0F);
      weights[j] = exp2_at_most_one(__fmul_rn(distances[j], 1.44269504F));
    }
    // Four floats, then doubles: few conversions, and rounding does not grow with the row.
    sum += static_cast<double>((weights[0] + weights[1]) + (weights[2] + weights[3]));
    float const products = fmaf(weights[0], distances[0], weights[1] * distances[1]) +
                           fmaf(weights[2], distances[2], weights[3] * distances[3]);
    weighted += static_cast<double>(products);
  }
  sum = warp_total(sum);
  weighted = warp_total(weighted);
  first = __reduce_min_sync(0xFFFFFFFFU, first);
  if (threadIdx.x % 32 == 0) {
    shared.sum[threadIdx.x / 32] = sum;
    shared.weighted[threadIdx.x / 32] = weighted;
    shared.first[threadIdx.x / 32] = first;
  }
  __syncthreads();
  LogitPartial found{0.0, 0.0, highest, 0xFFFFFFFFU};
  if (threadIdx.x == 0) {
    for (int warp = 0; warp < entropy_warps; ++warp) {
      found.sum += shared.sum[warp];
      found.weighted += shared.weighted[warp];
      found.first = min(found.first, shared.first[warp]);
    }
    found.first += begin;
  }
  return found;
}

/// The figures of a row whose sums are known.
__device__ inline void write_entropy(EntropyTask const& task, std::size_t index,
                                     LogitPartial const& row) {
  constexpr double unknown = __builtin_nan("");
  Entropy& result = task.results[index];
  result.top_index = row.first;
  result.status = row.highest == logit_infinity()    ? EntropyStatus::not_finite
                  : row.highest == -logit_infinity() ? EntropyStatus::no_mass
                                                     : EntropyStatus::valid;
  if (result.status != EntropyStatus::valid) {
    result.log_sum_exp = unknown;
    result.entropy_nats = unknown;
    result.top_probability = unknown;
    result.change = unknown;
    return;
  }
  constexpr double ln2 = 0.69314718055994530942;
  double const octaves = host::log2(row.sum);
  result.log_sum_exp = __fma_rn(octaves, ln2, static_cast<double>(row.highest));
  result.entropy_nats = fmax(0.0, __fma_rn(octaves, ln2, -(row.weighted / row.sum)));
  result.top_probability = 1.0 / row.sum;
  bool const compares = task.means != nullptr && task.means[index] == task.means[index];
  result.change = compares ? result.entropy_nats - static_cast<double>(task.means[index]) : 0.0;
}

template <class T>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(entropy_threads)
    entropy_kernel(Span<T const> const logits, EntropyTask const task) {
  __shared__ EntropyStorage shared;
  std::size_t const row = blockIdx.x / task.chunks;
  std::uint32_t const chunk = blockIdx.x % task.chunks;
  std::size_t const begin = std::size_t{chunk} * entropy_chunk;
  auto const size =
      static_cast<std::uint32_t>(min(task.row_length - begin, std::size_t{entropy_chunk}));
  LogitTile<T> tile;
  tile.load(logits, row * task.row_length + begin, size);
  LogitPartial const found = reduce_chunk(tile, static_cast<std::uint32_t>(begin), shared);
  if (threadIdx.x != 0) {
    return;
  }
  if (task.chunks == 1) {
    write_entropy(task, row, found);
  } else {
    task.partials[blockIdx.x] = found;
  }
}

/// Merges the chunks of a row: a warp each. (A template, since kernels cannot be inline.)
template <int Threads>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(Threads)
    entropy_merge_kernel(EntropyTask const task) {
  static_assert(Threads == 32);
  std::size_t const row = blockIdx.x;
  LogitPartial const* const partials = task.partials + row * task.chunks;
  std::uint32_t order = 0;
  for (std::uint32_t i = threadIdx.x; i < task.chunks; i += 32) {
    order = max(order, logit_order(partials[i].highest));
  }
  order = __reduce_max_sync(0xFFFFFFFFU, order);
  LogitPartial all{0.0, 0.0, logit_of_order(order), 0xFFFFFFFFU};
  bool const finite = fabsf(all.highest) < logit_infinity();
  for (std::uint32_t i = threadIdx.x; i < task.chunks; i += 32) {
    LogitPartial const part = partials[i];
    if (part.highest == all.highest) {
      all.first = min(all.first, part.first);
    }
    if (finite && part.highest - all.highest > entropy_lowest) {
      auto const shift = static_cast<double>(part.highest) - static_cast<double>(all.highest);
      double const factor = exp(shift);
      all.sum += factor * part.sum;
      all.weighted += factor * (part.weighted + shift * part.sum);
    }
  }
  all.sum = warp_total(all.sum);
  all.weighted = warp_total(all.weighted);
  all.first = __reduce_min_sync(0xFFFFFFFFU, all.first);
  if (threadIdx.x == 0) {
    write_entropy(task, row, all);
  }
}

/// Where the temporaries lie; with a base, in a workspace.
inline WorkspaceLayout lay_out_entropy(EntropyTask& task, std::byte* base) {
  task.chunks = static_cast<std::uint32_t>(task.row_length / entropy_chunk +
                                           (task.row_length % entropy_chunk != 0 ? 1 : 0));
  WorkspaceLayout layout(base);
  task.partials = layout.take<LogitPartial>(task.chunks > 1 ? task.rows * task.chunks : 0);
  return layout;
}

inline std::size_t entropy_workspace(std::size_t rows, std::size_t row_length) {
  EntropyTask task;
  task.row_length = row_length;
  task.rows = rows;
  WorkspaceLayout layout = lay_out_entropy(task, nullptr);
  layout.take<Entropy>(1);  // a result, for the function that returns it
  return layout.bytes();
}

template <Element T>
void check_entropy(Span<T const> logits, std::size_t row_length, Span<float const> means,
                   Span<Entropy> results, Span<std::byte> workspace) {
  if (row_length == 0 && !results.empty()) {
    throw InvalidArgument("entropy: there are no logits");
  }
  if (row_length > 0xFFFFFFFFU) {
    throw InvalidArgument("entropy: row_length is " + std::to_string(row_length) +
                          ", expected at most 4294967295");
  }
  host::detail::check_size("entropy", "logits", logits.size(), row_length * results.size());
  if (!means.empty()) {
    host::detail::check_size("entropy", "means", means.size(), results.size());
  }
  std::size_t const chunks = row_length / entropy_chunk + 1;
  if (results.size() > 0x7FFFFFFFU / chunks) {
    throw InvalidArgument("entropy: there are " + std::to_string(results.size()) +
                          " rows, expected at most " + std::to_string(0x7FFFFFFFU / chunks) +
                          " of " + std::to_string(row_length) + " logits");
  }
  check_workspace("entropy", workspace, entropy_workspace(results.size(), row_length));
}

template <Element T>
void launch_entropy(Span<T const> logits, std::size_t row_length, Span<float const> means,
                    Span<Entropy> results, Span<std::byte> workspace, ::cuda::stream_ref stream) {
  check_entropy(logits, row_length, means, results, workspace);
  if (results.empty()) {
    return;
  }
  EntropyTask task;
  task.row_length = row_length;
  task.rows = results.size();
  task.means = means.data();
  task.results = results.data();
  lay_out_entropy(task, workspace.data());
  auto const rows = static_cast<std::uint32_t>(task.rows);
  entropy_kernel<T><<<rows * task.chunks, entropy_threads, 0, stream.get()>>>(logits, task);
  check_launch("entropy_kernel");
  if (task.chunks > 1) {
    entropy_merge_kernel<32><<<rows, 32, 0, stream.get()>>>(task);
    check_launch("entropy_merge_kernel");
  }
}

/// @throws InvalidArgument unless a row's result is valid
inline void check_result(Entropy const& result, std::size_t row_length) {
  if (result.status == EntropyStatus::not_finite) {
    throw InvalidArgument("entropy: logits[" + std::to_string(result.top_index) + "] of " +
                          std::to_string(row_length) + " is NaN or +infinity");
  }
  if (result.status == EntropyStatus::no_mass) {
    throw InvalidArgument("entropy: all " + std::to_string(row_length) + " logits are -infinity");
  }
}

}  // namespace kvfreeze::gpu::detail
