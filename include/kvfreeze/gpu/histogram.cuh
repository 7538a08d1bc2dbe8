#pragma once

/// @file
/// @brief Histograms of masses and scores on the device, and what is read off them.

#include <kvfreeze/gpu/detail/histogram_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/kernels/histogram.hpp>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::gpu {

/// @brief One lane's integers by granule, and which of them a histogram counts.
struct ScoredRows {
  std::uint32_t const* scores = nullptr;  ///< [granules], or null: all are 0
  std::uint8_t const* states = nullptr;   ///< [granules], or null: none is hidden
  std::int32_t low = 0;                   ///< granules [low, high) are counted ...
  std::int32_t high = 0;
  std::uint8_t hidden = 0;  ///< ... whose state has none of these bits
};

/// Lanes described in device memory; functions take any type with such a member.
struct DescribedRows {
  Span<ScoredRows const> lanes;

  [[nodiscard]] __device__ ScoredRows rows(int lane) const { return lanes[lane]; }
};

/// @brief Histograms of each lane's scores: host::LogHistogram::add of the device.
///
/// One launch and one memset for all lanes. Nothing is waited for; arrays and what `lanes` points
/// to must live until the stream has done the work.
/// @param histograms [lanes], overwritten
/// @param max_granules no lane has more (granules beyond it are not counted)
/// @throws InvalidArgument, CudaError
/// @complexity O(granules) a lane
template <class Lanes>
void log_histograms_async(Lanes const& lanes, int max_granules, Span<host::LogHistogram> histograms,
                          ::cuda::stream_ref stream) {
  if (max_granules < 0) {
    throw InvalidArgument("log_histograms: max_granules is " + std::to_string(max_granules) +
                          ", expected at least 0");
  }
  if (histograms.empty()) {
    return;
  }
  check(cudaMemsetAsync(histograms.data(), 0, histograms.size_bytes(), stream.get()),
        "cudaMemsetAsync of histograms");
  if (max_granules == 0) {
    return;
  }
  auto const count = static_cast<int>(histograms.size());
  dim3 const grid(static_cast<unsigned>(detail::histogram_blocks(count, max_granules)),
                  static_cast<unsigned>(count));
  detail::log_histograms_kernel<<<grid, detail::histogram_threads, 0, stream.get()>>>(
      lanes, max_granules, histograms.data());
  check_launch("log_histograms_kernel");
}

/// @brief Has each lane's histogram read by a block of 256 threads.
/// @param finish trivially copyable, called as finish(lane, cumulative) on the device by all 256
///   threads; `cumulative` is a CumulativeHistogram in shared memory
/// @throws CudaError
/// @complexity O(bins) a lane and what `finish` does
template <class Finish>
void finish_histograms_async(Span<host::LogHistogram const> histograms, Finish const& finish,
                             ::cuda::stream_ref stream) {
  if (histograms.empty()) {
    return;
  }
  detail::finish_histograms_kernel<<<static_cast<unsigned>(histograms.size()),
                                     CumulativeHistogram::threads, 0, stream.get()>>>(
      histograms.data(), finish);
  check_launch("finish_histograms_kernel");
}

/// @brief Thresholds that leave out as many of the lowest log bins as an epsilon has room for:
/// host::mass_threshold of each lane.
/// @param epsilons, thresholds [lanes]
/// @throws InvalidArgument, CudaError
inline void mass_thresholds_async(Span<host::LogHistogram const> histograms,
                                  Span<std::uint32_t const> epsilons,
                                  Span<std::uint32_t> thresholds, ::cuda::stream_ref stream) {
  if (epsilons.size() != histograms.size() || thresholds.size() != histograms.size()) {
    throw InvalidArgument("mass_thresholds: " + std::to_string(histograms.size()) +
                          " histograms, but " + std::to_string(epsilons.size()) + " epsilons and " +
                          std::to_string(thresholds.size()) + " thresholds");
  }
  finish_histograms_async(histograms, detail::FindThreshold{epsilons.data(), thresholds.data()},
                          stream);
}

}  // namespace kvfreeze::gpu
