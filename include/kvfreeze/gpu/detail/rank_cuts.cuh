#pragma once

/// @file
/// @brief Cuts of ladders that go by ranks, Rungs::attended. @see host::find_rank_cuts

#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/rung_cuts.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Rows that ranks ask for at each level.
/// @param open verdicts on those that may freeze
template <class C>
__device__ RungCounts count_ranks(Rungs const& rungs, int open) {
  RungCounts counts;
  int above = min(open, rungs.attended);
  for (int level = 0; level < C::levels; ++level) {
    int const next = min(above, rungs.above[level]);
    counts.compact[level] = (above - next) * C::span;
    above = next;
  }
  counts.exact = above * C::span;
  return counts;
}

/// @brief Finds the masses of a lane's rows by rank. By a block of CumulativeHistogram::threads,
/// together; all threads get the same answers.
template <class C>
class RankCuts {
 public:
  struct Storage {
    std::uint32_t digits[256];
    std::uint32_t prefix;
    std::uint32_t rank;
    std::uint32_t taking_part;  ///< rows with any mass
  };

  __device__ RankCuts(LadderLane<C> const& lane, Storage& storage) : l_(lane), shared_(storage) {}

  /// @brief Cuts at the last row that is attended, and at the last one above each level. Equal
  /// masses are not told apart.
  /// @complexity O(rows), four passes for each cut that lies among the rows
  __device__ RungCuts operator()(Rungs const& rungs) const {
    auto count = static_cast<std::int32_t>(count_taking_part());
    int wanted = rows_at(rungs.attended);
    RungCuts cuts;
#pragma unroll
    for (int i = 0; i <= C::levels; ++i) {
      if (i > 0) {
        wanted = min(wanted, rows_at(rungs.above[i - 1]));
      }
      if (wanted >= count) {
        cuts.least[i] = i > 0 ? max(cuts.least[i - 1], 1U) : 1U;
      } else if (wanted <= 0) {
        cuts.least[i] = CumulativeHistogram::nothing;
      } else {
        cuts.least[i] = nth_largest(static_cast<std::uint32_t>(wanted));
        count = wanted;
      }
    }
    return cuts;
  }

 private:
  /// Rows up to a rank of verdicts.
  static __device__ int rows_at(int rank) { return min(rank, 0x7FFFFFFF / C::span) * C::span; }

  /// Calls f(mass) for the thread's share of the rows.
  template <class F>
  __device__ void for_each_mass(F const& f) const {
    for (int run = 0; run < 2 + C::levels; ++run) {
      l_.for_each_four(l_.runs().rows[run], [&](int first, int n) {
        Mass masses[4];
        l_.masses(run, first, n, masses);
        for (int j = 0; j < n; ++j) {
          f(masses[j]);
        }
      });
    }
  }

  [[nodiscard]] __device__ std::uint32_t count_taking_part() const {
    if (threadIdx.x == 0) {
      shared_.taking_part = 0;
    }
    __syncthreads();
    std::uint32_t own = 0;
    for_each_mass([&](Mass mass) { own += mass > 0 ? 1U : 0U; });
    atomicAdd(&shared_.taking_part, own);
    __syncthreads();
    std::uint32_t const count = shared_.taking_part;
    __syncthreads();
    return count;
  }

  /// The n-th largest mass, digit by digit: kth_key() would read all rows for each bit.
  /// @param n at least 1; more rows have mass
  [[nodiscard]] __device__ std::uint32_t nth_largest(std::uint32_t n) const {
    if (threadIdx.x == 0) {
      shared_.prefix = 0;
      shared_.rank = n;
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
      for (auto i = static_cast<int>(threadIdx.x); i < 256; i += l_.threads) {
        shared_.digits[i] = 0;
      }
      __syncthreads();
      std::uint32_t const prefix = shared_.prefix;
      for_each_mass([&](Mass mass) {
        if (static_cast<std::uint64_t>(mass) >> (shift + 8) == prefix) {
          atomicAdd(&shared_.digits[mass >> shift & 255U], 1U);
        }
      });
      __syncthreads();
      if (threadIdx.x == 0) {
        int digit = 255;
        while (digit > 0 && shared_.digits[digit] < shared_.rank) {
          shared_.rank -= shared_.digits[digit];
          --digit;
        }
        shared_.prefix = prefix << 8 | static_cast<std::uint32_t>(digit);
      }
      __syncthreads();
    }
    std::uint32_t const found = shared_.prefix;
    __syncthreads();
    return found;
  }

  LadderLane<C> const& l_;
  Storage& shared_;
};

/// @brief Puts the cuts that ranks ask for where the others look for them. By the whole block.
/// @param facts with the water level that counts
template <class C>
__device__ void cut_by_rank(LadderLane<C> const& l, LaneFacts const& facts) {
  __shared__ typename RankCuts<C>::Storage storage;
  RungCuts const cuts = RankCuts<C>(l, storage)(l.scheduler.rungs(facts));
  if (threadIdx.x == 0) {
    l.shared.cuts = cuts;
  }
  __syncthreads();
}

}  // namespace kvfreeze::gpu::detail
