#pragma once

#include <kvfreeze/gpu/detail/block_scan.cuh>
#include <kvfreeze/host/kernels/histogram.hpp>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief A host::LogHistogram with its prefix sums, in shared memory: built once by a block of 256
/// threads, then any thread asks what the host's members answer, in O(log bins).
struct CumulativeHistogram {
  static constexpr int bins = host::LogHistogram::bins;
  static constexpr int threads = bins;                   ///< of the block that builds it
  static constexpr std::uint32_t nothing = 0xFFFFFFFFU;  ///< a threshold above every mass

  /// What `build` needs beside.
  union Storage {
    detail::WarpSums<threads, std::uint64_t> sums;
    detail::WarpSums<threads> counts;
  };

  std::uint64_t below[bins + 1];  ///< sum of the bins below b
  std::uint32_t from[bins + 1];   ///< rows in the bins from b on

  /// @brief From the sum and the count of bin threadIdx.x. By all threads of the block.
  __device__ void build(std::uint64_t sum, std::uint32_t count, Storage& storage) {
    int const bin = static_cast<int>(threadIdx.x);
    std::uint64_t sums = 0;
    std::uint64_t all = 0;
    detail::scan_block<threads>(storage.sums, sum, sums, all);
    below[bin + 1] = sums + sum;
    __syncthreads();
    std::uint32_t before = 0;
    std::uint32_t total = 0;
    detail::scan_block<threads>(storage.counts, count, before, total);
    from[bin] = total - before;
    if (bin == 0) {
      below[0] = 0;
      from[bins] = 0;
    }
    __syncthreads();
  }

  /// From a histogram that other blocks may have written. By all threads of the block.
  __device__ void build(host::LogHistogram const& histogram, Storage& storage) {
    unsigned const bin = threadIdx.x;
    auto const* const sums = reinterpret_cast<unsigned long long const*>(histogram.sums);
    build(__ldcg(sums + bin), __ldcg(histogram.counts + bin), storage);
  }

  [[nodiscard]] __device__ std::uint64_t total_sum() const { return below[bins]; }

  [[nodiscard]] __device__ std::uint32_t total_count() const { return from[0]; }

  [[nodiscard]] __device__ std::uint32_t count_of(int bin) const {
    return from[bin] - from[bin + 1];
  }

  /// All but the largest set of lowest bins whose sum is at most `budget`.
  [[nodiscard]] __device__ host::BinCutoff all_but(std::uint64_t budget) const {
    int const bin = lowest([&](int b) { return below[b + 1] > budget; });
    return {bin, bin < bins ? host::LogHistogram::all_of_bin : 0U};
  }

  /// Exactly the k highest, at the resolution of a bin; everything if there are fewer.
  [[nodiscard]] __device__ host::BinCutoff highest(std::uint32_t k) const {
    if (k == 0) {
      return {bins, 0};
    }
    if (total_count() < k) {
      return {0, host::LogHistogram::all_of_bin};
    }
    int const bin = lowest([&](int b) { return from[b + 1] < k; });
    return {bin, k - from[bin + 1]};
  }

  /// The rows from the bin of the p-quantile on.
  [[nodiscard]] __device__ host::BinCutoff above_quantile(float p) const {
    std::uint32_t const n = total_count();
    if (n == 0) {
      return {bins, 0};
    }
    auto const index =
        static_cast<std::uint32_t>(__dmul_rn(static_cast<double>(p), static_cast<double>(n - 1)));
    int const bin = lowest([&](int b) { return n - from[b + 1] > index; });
    return {bin, bin < bins ? host::LogHistogram::all_of_bin : 0U};
  }

  /// The least value that a cutoff without ties wants; `nothing` if it wants none.
  [[nodiscard]] static __device__ std::uint32_t threshold(host::BinCutoff cutoff) {
    return cutoff.bin < bins ? host::log_bin_floor(cutoff.bin) : nothing;
  }

  /// Rows from a threshold on that is a bin's floor, or `nothing`.
  [[nodiscard]] __device__ std::uint32_t count_from(std::uint32_t threshold) const {
    return threshold == nothing ? 0U : from[host::log_bin(threshold)];
  }

  /// Sum of the rows below such a threshold.
  [[nodiscard]] __device__ std::uint64_t sum_below(std::uint32_t threshold) const {
    return threshold == nothing ? total_sum() : below[host::log_bin(threshold)];
  }

 private:
  /// The lowest bin for which a condition holds that holds for all bins above it too; `bins` if
  /// there is none.
  template <class Condition>
  static __device__ int lowest(Condition const& holds) {
    int low = -1;  // does not hold
    int high = bins;
    while (high - low > 1) {
      int const middle = (low + high) / 2;
      (holds(middle) ? high : low) = middle;
    }
    return high;
  }
};

}  // namespace kvfreeze::gpu
