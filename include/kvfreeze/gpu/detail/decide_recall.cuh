#pragma once

/// @file
/// @brief Recall's selections, decided by one block a lane from a histogram.

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/gpu/cumulative_histogram.cuh>
#include <kvfreeze/gpu/recall_lane.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What is wanted of the granules that were asked: scores from `from` on, and of those in
/// one bin `ties` from the `first_tie`-th on, by position.
struct RecallDecision {
  static constexpr std::uint64_t nothing = std::uint64_t{1} << 32;

  std::uint64_t from = nothing;
  std::int32_t tie_bin = -1;  ///< -1: none
  std::uint32_t first_tie = 0;
  std::uint32_t ties = 0;
};

/// As a decision on whole bins where that is the same, so that nobody counts ties.
__device__ inline RecallDecision decision_of(host::BinCutoff cutoff,
                                             CumulativeHistogram const& scores) {
  constexpr int last = 239;  // log_bin of the largest integer
  RecallDecision decision;
  if (cutoff.bin > last) {
    return decision;
  }
  if (cutoff.in_bin >= scores.count_of(cutoff.bin)) {
    decision.from = host::log_bin_floor(cutoff.bin);
    return decision;
  }
  if (cutoff.bin < last) {
    decision.from = host::log_bin_floor(cutoff.bin + 1);
  }
  decision.tie_bin = cutoff.bin;
  decision.ties = cutoff.in_bin;
  return decision;
}

template <class Scheduler, class Lanes>
struct DecideRecall {
  Scheduler scheduler;
  Lanes lanes;
  float units;
  int chunks;
  RecallDecision* decisions;
  unsigned* arrived;
  std::uint32_t* cells;
  RecallResult* results;
  Span<float const> water_levels;
  std::uint32_t* demands;

  /// By all threads of a block.
  __device__ void operator()(int lane, CumulativeHistogram const& scores) const {
    auto const thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < 2 * chunks; i += CumulativeHistogram::threads) {
      cells[2 * chunks * lane + i] = 0;
    }
    auto const levels = static_cast<int>(water_levels.size());
    if (thread < levels) {
      std::uint32_t const epsilon = kvfreeze::detail::score_threshold(water_levels[thread], units);
      demands[lane * levels + thread] = scores.from[scores.all_but(epsilon).bin];
    }
    RecallLane const own = lanes.lane(lane);
    Selection selection = kvfreeze::detail::as_count(
        kvfreeze::detail::among_open(scheduler.recall(own.facts), own.facts.protected_granules),
        own.high - own.low);
    if constexpr (kvfreeze::detail::is_eager<Scheduler>()) {
      selection = Selection::all();
    }
    bool const knows = own.scores != nullptr;
    if (!knows && selection.kind != Selection::Kind::all) {
      selection = Selection::none();  // nothing is known of what is frozen
    }
    std::uint32_t marked = 0;
    RecallDecision decision;
    switch (selection.kind) {
      case Selection::Kind::all:
        decision.from = 0;
        marked = scores.total_count();
        break;
      case Selection::Kind::above:
        decision.from = kvfreeze::detail::score_threshold(selection.value, units);
        marked = count_from(own, scores, static_cast<std::uint32_t>(decision.from));
        break;
      case Selection::Kind::mass: {
        std::uint32_t const epsilon = kvfreeze::detail::score_threshold(selection.value, units);
        host::BinCutoff const cutoff = scores.all_but(epsilon);
        decision = decision_of(cutoff, scores);
        marked = scores.from[cutoff.bin];
        break;
      }
      case Selection::Kind::count:
        if (selection.count > 0) {
          auto const count = static_cast<std::uint32_t>(selection.count);
          decision = decision_of(scores.highest(count), scores);
          marked = min(count, scores.total_count());
        }
        break;
      default:
        break;
    }
    if (thread != 0) {
      return;
    }
    int const left = own.facts.allowed - own.facts.protected_granules;
    auto const room = static_cast<std::uint32_t>(max(left, 0));
    RecallResult result;
    result.wanted = marked;
    if (marked > room) {
      result.wanted = room;
      result.deferred = marked - room;
      result.over_cap = 1;
      decision = knows ? decision_of(scores.highest(room), scores) : newest(room, marked);
    } else if (knows && selection.kind == Selection::Kind::mass) {
      float const share = kvfreeze::detail::hysteresis(scheduler);
      if (share < 1.0F) {
        std::uint32_t const epsilon =
            kvfreeze::detail::score_threshold(__fmul_rn(selection.value, share), units);
        result.keep_from = scores.threshold(scores.all_but(epsilon));
      }
    }
    arrived[lane] = 0;
    decisions[lane] = decision;
    results[lane] = result;
  }

 private:
  /// Of granules whose scores are not known, which all count as 0, the last ones.
  static __device__ RecallDecision newest(std::uint32_t room, std::uint32_t marked) {
    RecallDecision decision;
    decision.tie_bin = 0;
    decision.first_tie = marked - room;
    decision.ties = room;
    return decision;
  }

  /// @brief How many of the asked granules have a score of at least `threshold`. Where that is not
  /// a bin's floor, the bin's own granules are looked at: O(granules).
  __device__ std::uint32_t count_from(RecallLane const& own, CumulativeHistogram const& scores,
                                      std::uint32_t threshold) const {
    int const bin = host::log_bin(threshold);
    std::uint32_t const above = scores.from[bin + 1];
    if (host::log_bin_floor(bin) == threshold || scores.count_of(bin) == 0 ||
        own.scores == nullptr) {
      return threshold == 0 ? scores.total_count() : scores.from[bin];
    }
    __shared__ std::uint32_t within;
    if (threadIdx.x == 0) {
      within = 0;
    }
    __syncthreads();
    std::uint32_t count = 0;
    for (int i = own.low + static_cast<int>(threadIdx.x); i < own.high;
         i += CumulativeHistogram::threads) {
      bool const asked = (own.states[i] & host::GranuleState::not_askable) == 0;
      std::uint32_t const score = own.scores[i];
      count += asked && score >= threshold && host::log_bin(score) == bin ? 1U : 0U;
    }
    count = __reduce_add_sync(warp_mask, count);
    if (threadIdx.x % 32 == 0) {
      atomicAdd(&within, count);
    }
    __syncthreads();
    return above + within;
  }
};

}  // namespace kvfreeze::gpu::detail
