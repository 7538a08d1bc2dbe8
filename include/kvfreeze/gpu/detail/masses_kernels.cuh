#pragma once

/// @file
/// @brief Softmax masses of many lanes in three launches. No block waits for another.

#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/detail/lane_masses.cuh>

#include <cuda/std/type_traits>

namespace kvfreeze::gpu::detail {

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
  __shared__ MassStorage storage;
  tiles.load(lanes, static_cast<int>(blockIdx.y));
  LanePlace const place = place_in_grid(tiles);
  if (place.block < place.blocks) {
    find_largest(tiles, plan, place, storage);
  }
}

/// @param arrived [lanes]: set to 0 for the next launch
template <class Lanes>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads) void sum_weights_kernel(Lanes lanes, MassPlan plan, unsigned* arrived) {
  __shared__ LaneTiles tiles;
  __shared__ MassStorage storage;
  tiles.load(lanes, static_cast<int>(blockIdx.y));
  LanePlace const place = place_in_grid(tiles);
  if (place.block >= place.blocks) {
    return;
  }
  if (place.block == 0 && plan.histograms != nullptr) {
    clear_histogram(plan, place);
    if (threadIdx.x == 0) {
      arrived[place.lane] = 0;
    }
  }
  sum_weights(tiles, plan, place, storage);
}

/// @param arrived [lanes]: blocks that have counted their masses
template <class Lanes, class Finish>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    rank_threads, 3) void masses_kernel(Lanes lanes, MassPlan plan, unsigned* arrived,
                                        Finish finish) {
  constexpr bool counting = !::cuda::std::is_same_v<Finish, NoHistograms>;
  extern __shared__ HeadScale scales[];  // [heads]
  __shared__ LaneTiles tiles;
  __shared__ BlockHistogram histogram;
  tiles.load(lanes, static_cast<int>(blockIdx.y));
  LanePlace const place = place_in_grid(tiles);
  if (place.block >= place.blocks) {
    return;
  }
  find_scales(plan, place, scales);
  if constexpr (counting) {
    histogram.clear();
  }
  __syncthreads();
  make_masses<counting>(tiles, plan, place, scales, &histogram);
  if constexpr (is_finish<Finish>) {
    __shared__ CumulativeHistogram rows;
    __shared__ typename CumulativeHistogram::Storage storage;
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      last = atomicAdd(&arrived[place.lane], 1U) + 1U == static_cast<unsigned>(place.blocks);
    }
    __syncthreads();
    if (last) {
      __threadfence();
      rows.build(plan.histograms[place.lane], storage);
      finish(place.lane, rows);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
