#pragma once

/// @file
/// @brief The fidelity ladder's cuts and what they ask for, read off a lane's histogram: the
/// device's form of host::find_cuts, host::ladder_wish and host::note_ladder_demand.

#include <kvfreeze/config.hpp>
#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/scheduler/lane_facts.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Masses from which a row stands above each level of a ladder: frozen, then the compact
/// ones. Levels that a ladder does not have are never passed.
struct RungCuts {
  std::uint32_t least[Rungs::most_levels + 1] = {
      CumulativeHistogram::nothing, CumulativeHistogram::nothing, CumulativeHistogram::nothing,
      CumulativeHistogram::nothing};

  /// Level of a row of that mass: 0 frozen, then the compact ones, then exact.
  [[nodiscard]] KVFREEZE_HD constexpr int level(std::uint32_t mass) const noexcept {
    int level = 0;
    for (std::uint32_t const cut : least) {
      level += mass >= cut ? 1 : 0;
    }
    return level;
  }

  /// Least mass at which a row of level `level` >= 1 is still needed there.
  [[nodiscard]] KVFREEZE_HD constexpr std::uint32_t needed(int level, float hold) const noexcept {
    double const cut = static_cast<double>(least[level - 1]) * static_cast<double>(hold);
    return static_cast<std::uint32_t>(cut < 4294967295.0 ? cut : 4294967295.0);
  }
};

/// Rows that a ladder holds at each level, protected ones not among them.
struct RungCounts {
  std::int32_t compact[Rungs::most_levels] = {};
  std::int32_t exact = 0;

  friend constexpr bool operator==(RungCounts const&, RungCounts const&) = default;
};

/// A fraction in [0, 1] as a mass, to the bit host::to_mass.
__device__ inline std::uint32_t to_fixed_mass(float fraction) {
  return __float2uint_rn(__fmul_rn(fraction, 0x1p30F));
}

namespace detail {

/// Thresholds of the rungs: frozen, then level by level. std::array's members are not callable on
/// the device.
__device__ inline float rung(Rungs const& rungs, int level) {
  return reinterpret_cast<float const*>(&rungs.compact)[level];
}

}  // namespace detail

/// @brief The cuts that thresholds ask for. By any thread.
/// @tparam Levels compact levels
/// @param masses histogram of all rows that take part, protected ones not among them
/// @complexity O(log bins)
template <int Levels>
__device__ RungCuts find_cuts(CumulativeHistogram const& masses, Rungs const& rungs) {
  static_assert(Levels <= Rungs::most_levels);
  RungCuts cuts;
  std::uint32_t cut = masses.threshold(masses.all_but(to_fixed_mass(rungs.frozen)));
  cuts.least[0] = cut;
#pragma unroll
  for (int level = 0; level < Levels; ++level) {
    // A threshold that is not above the one before leaves the level empty. The host counts from
    // the first row that is not frozen on, which ends in the same bin.
    std::uint32_t const epsilon = to_fixed_mass(detail::rung(rungs, level));
    cut = max(cut, masses.threshold(masses.all_but(epsilon)));
    cuts.least[level + 1] = cut;
  }
  return cuts;
}

/// @brief How many rows the ladder would hold at each level. By any thread.
/// @param cuts as find_cuts() made them
template <int Levels>
__device__ RungCounts count_rungs(CumulativeHistogram const& masses, RungCuts const& cuts) {
  RungCounts counts;
  auto above = static_cast<std::int32_t>(masses.count_from(cuts.least[0]));
#pragma unroll
  for (int level = 0; level < Levels; ++level) {
    auto const next = static_cast<std::int32_t>(masses.count_from(cuts.least[level + 1]));
    counts.compact[level] = above - next;
    above = next;
  }
  counts.exact = above;
  return counts;
}

/// @brief For finish_histograms_async() and softmax_masses_async(): the cuts of each lane, and what
/// they and the water levels ask for.
/// @tparam Scheduler has rungs(): a ladder
/// @tparam Levels compact levels, in [0, 3]
template <SchedulerPolicy Scheduler, int Levels>
  requires kvfreeze::detail::HasRungs<Scheduler>
struct FindRungCuts {
  Scheduler scheduler;
  Span<LaneFacts const> facts;          ///< [lanes]
  Span<RungCuts> cuts;                  ///< [lanes]
  Span<RungCounts> wishes;              ///< [lanes], or empty
  Span<float const> water_levels = {};  ///< ascending epsilons, at most 256, or none
  Span<RungCounts> demands = {};        ///< [lanes][water_levels]: what each would hold

  __device__ void operator()(int lane, CumulativeHistogram const& masses) const {
    LaneFacts own = facts[lane];
    unsigned const thread = threadIdx.x;
    if (thread == 0) {
      RungCuts const found = find_cuts<Levels>(masses, scheduler.rungs(own));
      cuts[lane] = found;
      if (!wishes.empty()) {
        wishes[lane] = count_rungs<Levels>(masses, found);
      }
    }
    if (thread < water_levels.size()) {
      own.water_level = water_levels[thread];
      RungCuts const found = find_cuts<Levels>(masses, scheduler.rungs(own));
      demands[static_cast<std::size_t>(lane) * water_levels.size() + thread] =
          count_rungs<Levels>(masses, found);
    }
  }
};

}  // namespace kvfreeze::gpu
