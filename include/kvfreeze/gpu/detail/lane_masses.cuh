#pragma once

/// @file
/// @brief Softmax masses of a lane, by some blocks together, in three parts: largest logits, sums
/// of weights, masses.
///
/// A part leaves one result for each head and block. When all blocks of the lane have come so far,
/// those of the next part combine them. Nothing must be zero before.

#include <kvfreeze/detail/mass_entropy.hpp>
#include <kvfreeze/gpu/detail/block_histogram.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/host/kernels/histogram.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What the parts share, by address. Results that nobody asked for are null.
struct MassPlan {
  int heads = 0;
  int page_shift = 0;                         ///< rows of a granule, as a power of two
  float share = 0.0F;                         ///< units of mass that a head counts
  std::uint32_t const* known_keys = nullptr;  ///< [lanes][heads] of the largest logits
  std::uint32_t* keys = nullptr;              ///< [lanes][heads][blocks], where they are not known
  float* references = nullptr;               ///< [lanes][heads]: minus what weights are relative to
  std::uint64_t* sums = nullptr;             ///< [lanes][heads][blocks]: of all weights
  std::uint64_t* first_sums = nullptr;       ///< the same of the lane's first run; or null
  float* highest = nullptr;                  ///< [lanes][heads]
  float* lse = nullptr;                      ///< [lanes][heads]
  float* first_weights = nullptr;            ///< [lanes][heads]
  host::LogHistogram* histograms = nullptr;  ///< [lanes]
  unsigned long long* entropies = nullptr;   ///< [lanes]: sums of entropy_term() of rows' masses
};

/// What turns a head's weights into masses.
struct HeadScale {
  float reference;
  float scale;
};

/// @brief The block's shared memory: of one part at a time.
union MassStorage {
  std::uint32_t keys[rank_warps][rank_heads];

  struct {
    float references[rank_heads];
    std::uint64_t parts[rank_warps][2 * rank_heads];
  } sums;
};

/// Where a block's result for a head is.
/// @param entry lane * heads + head
__device__ inline std::size_t result_of(LanePlace const& place, int entry, int block) {
  return static_cast<std::size_t>(entry) * static_cast<std::size_t>(place.room) +
         static_cast<std::size_t>(block);
}

/// @brief The first part: the largest logit of each head among the block's tiles.
__device__ inline void find_largest(LaneTiles const& tiles, MassPlan const& plan,
                                    LanePlace const& place, MassStorage& storage) {
  auto const thread = static_cast<int>(threadIdx.x);
  for (int first = 0; first < plan.heads; first += rank_heads) {
    int const heads = min(plan.heads - first, rank_heads);
    float largest[rank_heads];
#pragma unroll
    for (float& x : largest) {
      x = minus_infinity();
    }
    tiles.for_each(place, [&](int, LogitRun const& run, int row) {
      if (!warp_has_rows(run, row)) {
        return;
      }
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
      if (thread % 32 == 0) {
        storage.keys[thread / 32][h] = key;
      }
    }
    __syncthreads();
    if (thread < heads) {
      std::uint32_t key = 0;
#pragma unroll
      for (auto const& part : storage.keys) {
        key = max(key, part[thread]);
      }
      plan.keys[result_of(place, place.lane * plan.heads + first + thread, place.block)] = key;
    }
    __syncthreads();
  }
}

/// @brief Largest logit of a head of the lane, minus infinity if no row takes part. By a warp.
/// @param entry lane * heads + head
__device__ inline float highest_of(MassPlan const& plan, LanePlace const& place, int entry) {
  if (plan.known_keys != nullptr) {
    return logit_of(plan.known_keys[entry]);
  }
  std::uint32_t key = 0;
#pragma unroll 1
  for (int b = static_cast<int>(threadIdx.x) % 32; b < place.blocks; b += 32) {
    key = max(key, plan.keys[result_of(place, entry, b)]);
  }
  return logit_of(__reduce_max_sync(warp_mask, key));
}

/// Empties the lane's histogram: before the last part. By one block.
__device__ inline void clear_histogram(MassPlan const& plan, LanePlace const& place) {
  static_assert(sizeof(host::LogHistogram) % sizeof(uint4) == 0);
  auto* const words = reinterpret_cast<uint4*>(plan.histograms + place.lane);
  constexpr int count = sizeof(host::LogHistogram) / sizeof(uint4);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < count; i += rank_threads) {
    words[i] = make_uint4(0, 0, 0, 0);
  }
}

/// @brief The second part: sums of the weights of the block's tiles; and what weights are relative
/// to, by the lane's first block.
__device__ inline void sum_weights(LaneTiles const& tiles, MassPlan const& plan,
                                   LanePlace const& place, MassStorage& storage) {
  auto const thread = static_cast<int>(threadIdx.x);
  int const warp = thread / 32;
  bool const leads = thread % 32 == 0;
  auto& shared = storage.sums;
  if (plan.entropies != nullptr && place.block == 0 && thread == 0) {
    plan.entropies[place.lane] = 0;
  }
  for (int first = 0; first < plan.heads; first += rank_heads) {
    int const heads = min(plan.heads - first, rank_heads);
    int const entry = place.lane * plan.heads + first;
    if (warp < heads) {
      float const highest = highest_of(plan, place, entry + warp);
      if (leads) {
        shared.references[warp] = minus_reference(highest);
        if (place.block == 0) {
          plan.references[entry + warp] = shared.references[warp];
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
      reference[h] = shared.references[h < heads ? h : 0];
    }
    std::uint64_t sums[rank_heads] = {};
    std::uint64_t first_sums[rank_heads] = {};
    tiles.for_each(place, [&](int r, LogitRun const& run, int row) {
      if (!warp_has_rows(run, row)) {
        return;
      }
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
          shared.parts[warp][h] = sum;
          shared.parts[warp][rank_heads + h] = first_sum;
        }
      }
    }
    __syncthreads();
    if (thread < (splits ? 2 * rank_heads : rank_heads) && thread % rank_heads < heads) {
      std::uint64_t sum = 0;
#pragma unroll
      for (auto const& part : shared.parts) {
        sum += part[thread];
      }
      auto* const out = thread < rank_heads ? plan.sums : plan.first_sums;
      out[result_of(place, entry + thread % rank_heads, place.block)] = sum;
    }
    __syncthreads();
  }
}

/// Sum of what the blocks of a lane found. By a warp.
__device__ inline std::uint64_t sum_of_blocks(std::uint64_t const* sums, LanePlace const& place,
                                              int entry) {
  std::uint64_t sum = 0;
#pragma unroll 1
  for (int b = static_cast<int>(threadIdx.x) % 32; b < place.blocks; b += 32) {
    sum += sums[result_of(place, entry, b)];
  }
  return warp_sum(sum);
}

/// @brief A head's scale, from the sums of all blocks of the lane. By a warp. The lane's first
/// block also writes what was asked for of the head.
__device__ inline HeadScale scale_of(MassPlan const& plan, LanePlace const& place, int entry) {
  float const total = __ull2float_rn(sum_of_blocks(plan.sums, place, entry));
  float const reference = plan.references[entry];
  bool const writes = place.block == 0;
  bool const leads = threadIdx.x % 32 == 0;
  if (writes && leads && plan.lse != nullptr) {
    constexpr auto bits = static_cast<float>(host::kernels::weight_bits);
    plan.lse[entry] =
        total > 0.0F ? __fsub_rn(__fsub_rn(host::log2(total), bits), reference) : minus_infinity();
  }
  if (writes && plan.first_sums != nullptr) {
    std::uint64_t const first = sum_of_blocks(plan.first_sums, place, entry);
    if (leads) {
      plan.first_weights[entry] = __ull2float_rn(first);
    }
  }
  return {reference, total > 0.0F ? __fdiv_rn(plan.share, total) : 0.0F};
}

/// Scales of all heads of the lane, to shared memory. All threads of the block call; none may read
/// before the next barrier.
__device__ inline void find_scales(MassPlan const& plan, LanePlace const& place,
                                   HeadScale* scales) {
  auto const thread = static_cast<int>(threadIdx.x);
  for (int head = thread / 32; head < plan.heads; head += rank_warps) {
    HeadScale const scale = scale_of(plan, place, place.lane * plan.heads + head);
    if (thread % 32 == 0) {
      scales[head] = scale;
    }
  }
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

/// Adds a warp's masses to the entropy of their lane. By whole warps.
__device__ inline void add_entropies(unsigned long long& sum, std::uint32_t const (&masses)[4]) {
  std::uint64_t terms = 0;
#pragma unroll
  for (std::uint32_t const mass : masses) {
    terms += kvfreeze::detail::entropy_term(mass);
  }
  terms = warp_sum(terms);
  if (threadIdx.x % 32 == 0 && terms != 0) {
    atomicAdd(&sum, static_cast<unsigned long long>(terms));
  }
}

/// @brief Masses of a thread's four rows of a lane, stored. By whole warps.
/// @param histogram that they are added to; null: none
/// @return how many of them count and are 0
__device__ inline unsigned make_quad_masses(MassPlan const& plan, int lane, LogitRun const& run,
                                            int row, HeadScale const* scales,
                                            BlockHistogram* histogram) {
  RowQuad<true> const quad(run, row, plan.page_shift);
  std::uint32_t masses[4] = {};
  masses_of(plan, run, quad, scales, masses);
  if (plan.entropies != nullptr) {
    add_entropies(plan.entropies[lane], masses);
  }
  int granules = quad.granules;
  if (plan.page_shift != 0) {
    masses[0] += masses[1] + masses[2] + masses[3];
    if (plan.page_shift == 4) {
      masses[0] += __shfl_xor_sync(warp_mask, masses[0], 1);
      masses[0] += __shfl_xor_sync(warp_mask, masses[0], 2);
      granules = threadIdx.x % 4 == 0 ? granules : 0;
    }
  }
  unsigned const there = quad.apart ? quad.in : (1U << granules) - 1U;
  unsigned zeros = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (((there >> j) & 1U) == 0) {
      continue;
    }
    bool const counts = ((quad.counted >> j) & 1U) != 0;
    masses[j] = run.protects && !counts ? 0U : masses[j];
    if (histogram == nullptr || !counts) {
      continue;
    }
    if (masses[j] == 0) {
      zeros += 1;
    } else {
      histogram->add(masses[j]);
    }
  }
  if (quad.apart) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (((there >> j) & 1U) != 0) {
        run.masses[quad.granule + 32 * j] = masses[j];
      }
    }
  } else {
    store_four(run.masses + quad.granule, masses, granules);
  }
  return zeros;
}

/// @brief The third part: masses of the block's tiles.
/// @tparam Counting they are also added to the lane's histogram
/// @param histogram empty; if Counting
template <bool Counting>
__device__ void make_masses(LaneTiles const& tiles, MassPlan const& plan, LanePlace const& place,
                            HeadScale const* scales, BlockHistogram* histogram) {
  unsigned zeros = 0;
  int counted = 0;
  tiles.for_each(place, [&](int, LogitRun const& run, int row) {
    if (warp_has_rows(run, row)) {
      zeros += make_quad_masses(plan, place.lane, run, row, scales, Counting ? histogram : nullptr);
    }
    counted += rank_tile;
    if (Counting && counted >= BlockHistogram::most_rows) {
      histogram->flush(plan.histograms[place.lane], zeros);
      zeros = 0;
      counted = 0;
    }
  });
  if constexpr (Counting) {
    histogram->flush(plan.histograms[place.lane], zeros);
  }
}

}  // namespace kvfreeze::gpu::detail
