#pragma once

/// @file
/// @brief Softmax masses of many lanes in three launches: largest logits, sums of weights, masses.
///
/// A launch leaves one result for each head and block; the blocks of the next one combine those of
/// their lane. Nothing must be zero before, and no block waits for another.

#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/block_histogram.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>

#include <cuda/std/type_traits>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What the launches share, by address. Results that nobody asked for are null.
struct MassPlan {
  int heads = 0;
  int page_shift = 0;                         ///< rows of a granule, as a power of two
  float share = 0.0F;                         ///< units of mass that a head counts
  std::uint32_t const* known_keys = nullptr;  ///< [lanes][heads] of the largest logits
  std::uint32_t* keys = nullptr;              ///< [lanes][heads][blocks], where they are not known
  float* references = nullptr;               ///< [lanes][heads]: minus what weights are relative to
  std::uint64_t* sums = nullptr;             ///< [lanes][heads][blocks]: of all weights
  std::uint64_t* first_sums = nullptr;       ///< the same of the lane's first run; or null
  unsigned* arrived = nullptr;               ///< [lanes]: blocks that have counted their masses
  float* highest = nullptr;                  ///< [lanes][heads]
  float* lse = nullptr;                      ///< [lanes][heads]
  float* first_weights = nullptr;            ///< [lanes][heads]
  host::LogHistogram* histograms = nullptr;  ///< [lanes]
};

/// Masses are not counted.
struct NoHistograms {};

/// Masses are counted, and nothing is made of it.
struct CountOnly {
  __device__ void operator()(int, CumulativeHistogram const&) const {}
};

/// Is something made of the counts?
template <class Finish>
inline constexpr bool is_finish =
    !::cuda::std::is_same_v<Finish, NoHistograms> && !::cuda::std::is_same_v<Finish, CountOnly>;

template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads) void largest_logits_kernel(Lanes lanes, MassPlan plan) {
  __shared__ LaneTiles tiles;
  __shared__ std::uint32_t parts[rank_warps][rank_heads];
  int const lane = static_cast<int>(blockIdx.y);
  tiles.load(lanes, lane);
  if (static_cast<int>(blockIdx.x) >= tiles.active_blocks()) {
    return;
  }
  int const warp = static_cast<int>(threadIdx.x) / 32;
  for (int first = 0; first < plan.heads; first += rank_heads) {
    int const heads = min(plan.heads - first, rank_heads);
    float largest[rank_heads];
#pragma unroll
    for (float& x : largest) {
      x = minus_infinity();
    }
    tiles.for_each([&](int, LogitRun const& run, int row) {
      RowQuad<false> const quad(run, row, plan.page_shift);
      float x[rank_heads][4];
      quad.load(run, first, heads, x);
#pragma unroll
      for (int h = 0; h < rank_heads; ++h) {
        if (h < heads) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            // A maximum with something that is not a number is the other, as on the host.
            largest[h] = fmaxf(largest[h], x[h][j]);
          }
        }
      }
    });
#pragma unroll
    for (int h = 0; h < rank_heads; ++h) {
      std::uint32_t const key = __reduce_max_sync(warp_mask, logit_key(largest[h]));
      if (threadIdx.x % 32 == 0) {
        parts[warp][h] = key;
      }
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < heads) {
      std::uint32_t key = 0;
#pragma unroll
      for (auto const& part : parts) {
        key = max(key, part[threadIdx.x]);
      }
      plan.keys[(static_cast<std::size_t>(lane * plan.heads + first) + threadIdx.x) * gridDim.x +
                blockIdx.x] = key;
    }
    __syncthreads();
  }
}

/// @brief Largest logit of a head of the lane, minus infinity if no row takes part. By a warp.
/// @param entry lane * heads + head
__device__ inline float highest_of(MassPlan const& plan, int entry, int active) {
  if (plan.known_keys != nullptr) {
    return logit_of(plan.known_keys[entry]);
  }
  std::uint32_t key = 0;
#pragma unroll 1
  for (int b = static_cast<int>(threadIdx.x) % 32; b < active; b += 32) {
    key = max(key,
              plan.keys[static_cast<std::size_t>(entry) * gridDim.x + static_cast<std::size_t>(b)]);
  }
  return logit_of(__reduce_max_sync(warp_mask, key));
}

template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads) void sum_weights_kernel(Lanes lanes, MassPlan plan) {
  __shared__ LaneTiles tiles;
  __shared__ float references[rank_heads];
  __shared__ std::uint64_t parts[rank_warps][2 * rank_heads];
  int const lane = static_cast<int>(blockIdx.y);
  tiles.load(lanes, lane);
  int const active = tiles.active_blocks();
  auto const block = static_cast<int>(blockIdx.x);
  auto const thread = static_cast<int>(threadIdx.x);
  if (block >= active) {
    return;
  }
  if (block == 0 && plan.histograms != nullptr) {  // the next launch adds to them
    static_assert(sizeof(host::LogHistogram) % sizeof(uint4) == 0);
    auto* const words = reinterpret_cast<uint4*>(plan.histograms + lane);
    constexpr int count = sizeof(host::LogHistogram) / sizeof(uint4);
#pragma unroll 1
    for (int i = thread; i < count; i += rank_threads) {
      words[i] = make_uint4(0, 0, 0, 0);
    }
    if (thread == 0) {
      plan.arrived[lane] = 0;
    }
  }
  int const warp = thread / 32;
  bool const leads = thread % 32 == 0;
  for (int first = 0; first < plan.heads; first += rank_heads) {
    int const heads = min(plan.heads - first, rank_heads);
    int const entry = lane * plan.heads + first;
    if (warp < heads) {
      float const highest = highest_of(plan, entry + warp, active);
      if (leads) {
        references[warp] = minus_reference(highest);
        if (block == 0) {
          plan.references[entry + warp] = references[warp];
          if (plan.highest != nullptr) {
            plan.highest[entry + warp] = highest;
          }
        }
      }
    }
    __syncthreads();
    float reference[rank_heads];
#pragma unroll
    for (int h = 0; h < rank_heads; ++h) {
      reference[h] = references[h < heads ? h : 0];
    }
    std::uint64_t sums[rank_heads] = {};
    std::uint64_t first_sums[rank_heads] = {};
    tiles.for_each([&](int r, LogitRun const& run, int row) {
      RowQuad<false> const quad(run, row, plan.page_shift);
      float x[rank_heads][4];
      quad.load(run, first, heads, x);
#pragma unroll
      for (int h = 0; h < rank_heads; ++h) {
        if (h < heads) {
          unsigned sum = 0;
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sum += static_cast<unsigned>(softmax_weight(x[h][j], reference[h]));
          }
          sums[h] += sum;
          first_sums[h] += r == 0 ? sum : 0U;
        }
      }
    });
    bool const splits = plan.first_sums != nullptr;
#pragma unroll
    for (int h = 0; h < rank_heads; ++h) {
      if (h < heads) {
        std::uint64_t const sum = warp_sum(sums[h]);
        std::uint64_t const first_sum = splits ? warp_sum(first_sums[h]) : 0;
        if (leads) {
          parts[warp][h] = sum;
          parts[warp][rank_heads + h] = first_sum;
        }
      }
    }
    __syncthreads();
    if (thread < (splits ? 2 * rank_heads : rank_heads) && thread % rank_heads < heads) {
      std::uint64_t sum = 0;
#pragma unroll
      for (auto const& part : parts) {
        sum += part[thread];
      }
      auto* const out = thread < rank_heads ? plan.sums : plan.first_sums;
      out[static_cast<std::size_t>(entry + thread % rank_heads) * gridDim.x + blockIdx.x] = sum;
    }
    __syncthreads();
  }
}

/// What turns a head's weights into masses.
struct HeadScale {
  float reference;
  float scale;
};

/// Sum of what the blocks of a lane found. By a warp.
__device__ inline std::uint64_t sum_of_blocks(std::uint64_t const* sums, int entry, int active) {
  std::uint64_t sum = 0;
#pragma unroll 1
  for (int b = static_cast<int>(threadIdx.x) % 32; b < active; b += 32) {
    sum += sums[static_cast<std::size_t>(entry) * gridDim.x + static_cast<std::size_t>(b)];
  }
  return warp_sum(sum);
}

/// @brief A head's scale, from the sums of all blocks of the lane. By a warp.
/// @param writes also write what was asked for of the head
__device__ inline HeadScale scale_of(MassPlan const& plan, int entry, int active, bool writes) {
  float const total = __ull2float_rn(sum_of_blocks(plan.sums, entry, active));
  float const reference = plan.references[entry];
  bool const leads = threadIdx.x % 32 == 0;
  if (writes && leads && plan.lse != nullptr) {
    constexpr auto bits = static_cast<float>(host::kernels::weight_bits);
    plan.lse[entry] =
        total > 0.0F ? __fsub_rn(__fsub_rn(host::log2(total), bits), reference) : minus_infinity();
  }
  if (writes && plan.first_sums != nullptr) {
    std::uint64_t const first = sum_of_blocks(plan.first_sums, entry, active);
    if (leads) {
      plan.first_weights[entry] = __ull2float_rn(first);
    }
  }
  return {reference, total > 0.0F ? __fdiv_rn(plan.share, total) : 0.0F};
}

/// Masses of a thread's four rows: for every four heads a chain of fused multiply-adds, rounded.
__device__ inline void masses_of(MassPlan const& plan, LogitRun const& run,
                                 RowQuad<true> const& quad, HeadScale const* scales,
                                 std::uint32_t (&masses)[4]) {
  for (int first = 0; first < plan.heads; first += rank_heads) {
    int const heads = min(plan.heads - first, rank_heads);
    float x[rank_heads][4];
    quad.load(run, first, heads, x);
    float sums[4] = {};
#pragma unroll
    for (int h = 0; h < rank_heads; ++h) {
      if (h < heads) {
        HeadScale const head = scales[first + h];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sums[j] = __fmaf_rn(softmax_weight(x[h][j], head.reference), head.scale, sums[j]);
        }
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      masses[j] += __float2uint_rn(sums[j]);
    }
  }
}

template <class Lanes, class Finish>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads, 3) void masses_kernel(Lanes lanes, MassPlan plan, Finish finish) {
  constexpr bool counting = !::cuda::std::is_same_v<Finish, NoHistograms>;
  extern __shared__ HeadScale scales[];  // [heads]
  __shared__ LaneTiles tiles;
  __shared__ BlockHistogram histogram;
  int const lane = static_cast<int>(blockIdx.y);
  tiles.load(lanes, lane);
  int const active = tiles.active_blocks();
  auto const block = static_cast<int>(blockIdx.x);
  auto const thread = static_cast<int>(threadIdx.x);
  if (block >= active) {
    return;
  }
  for (int head = thread / 32; head < plan.heads; head += rank_warps) {
    HeadScale const scale = scale_of(plan, lane * plan.heads + head, active, block == 0);
    if (thread % 32 == 0) {
      scales[head] = scale;
    }
  }
  if constexpr (counting) {
    histogram.clear();
  }
  __syncthreads();
  unsigned zeros = 0;
  int counted = 0;
  tiles.for_each([&](int, LogitRun const& run, int row) {
    RowQuad<true> const quad(run, row, plan.page_shift);
    std::uint32_t masses[4] = {};
    masses_of(plan, run, quad, scales, masses);
    int granules = quad.granules;
    if (plan.page_shift != 0) {
      masses[0] += masses[1] + masses[2] + masses[3];
      if (plan.page_shift == 4) {
        masses[0] += __shfl_xor_sync(warp_mask, masses[0], 1);
        masses[0] += __shfl_xor_sync(warp_mask, masses[0], 2);
        granules = thread % 4 == 0 ? granules : 0;
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j >= granules) {
        continue;
      }
      bool const counts = ((quad.counted >> j) & 1U) != 0;
      masses[j] = run.protects && !counts ? 0U : masses[j];
      if constexpr (counting) {
        if (counts && masses[j] == 0) {
          zeros += 1;
        } else if (counts) {
          histogram.add(masses[j]);
        }
      }
    }
    store_four(run.masses + quad.granule, masses, granules);
    counted += rank_tile;
    if (counting && counted >= BlockHistogram::most_rows) {
      histogram.flush(plan.histograms[lane], zeros);
      zeros = 0;
      counted = 0;
    }
  });
  if constexpr (counting) {
    histogram.flush(plan.histograms[lane], zeros);
  }
  if constexpr (is_finish<Finish>) {
    __shared__ CumulativeHistogram rows;
    __shared__ typename CumulativeHistogram::Storage storage;
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (thread == 0) {
      last = atomicAdd(&plan.arrived[lane], 1U) + 1U == static_cast<unsigned>(active);
    }
    __syncthreads();
    if (last) {
      __threadfence();
      rows.build(plan.histograms[lane], storage);
      finish(lane, rows);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
