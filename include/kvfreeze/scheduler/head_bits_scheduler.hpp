#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/lane_shares.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <cmath>
#include <cstdint>

namespace kvfreeze {

/// @brief All unprotected rows quantised, each lane with bits of its own: heads whose attention is
/// sharp get more.
///
/// Source: SCJedi/entropy-adaptive-kv-cache: b = mean bits + α (mean H - H), here rounded to the
/// layout's compact levels, which are taken to have 2, 4 and 6 bits: CompactLevel<2, 2>, <4, 4> and
/// <6, 8> under NestedKeyCodes<2, 6>. Rounding moves the mean: conserved() moves it back.
///
/// @complexity O(1); rows without any mass in 2^-30 stay out until they have some
template <int Most = 640>
struct HeadBitsScheduler {
  static constexpr bool by_rank = true;

  TableShares<Most> entropies{};  ///< H / mean H by lane; without a table all lanes have `bits`
  float mean_entropy = 0.0F;      ///< mean H in bits, in [0, 64]
  float bits = 4.0F;              ///< the mean lane's, in [2, 6]
  float alpha = 0.25F;            ///< bits for each bit of entropy less, in [0, 4]

  /// The lane's level: 0, 1 or 2.
  KVFREEZE_HD int level(LaneFacts const& lane) const noexcept {
    float const own = detail::fused(alpha * mean_entropy, 1.0F - entropies.of(lane), bits);
    return own < 3.0F ? 0 : own < 5.0F ? 1 : 2;
  }

  /// @brief The same scheduler with `bits` moved within [2, 6] so that the mean of the lanes'
  /// rounded bits comes as near to `bits` as one number for all lanes can bring it: the source's
  /// correction to a budget.
  /// @complexity O(lanes), 257 times
  [[nodiscard]] HeadBitsScheduler conserved() const noexcept {
    HeadBitsScheduler best = *this;
    float nearest = std::fabs(mean_bits() - bits);
    HeadBitsScheduler moved = *this;
    for (int i = 0; i <= 256; ++i) {
      moved.bits = 2.0F + static_cast<float>(i) / 64.0F;
      float const off = std::fabs(moved.mean_bits() - bits);
      // Of equals the least moved.
      if (off < nearest ||
          (off == nearest && std::fabs(moved.bits - bits) < std::fabs(best.bits - bits))) {
        nearest = off;
        best = moved;
      }
    }
    return best;
  }

  /// Mean bits of the table's lanes after rounding; `bits` without a table.
  [[nodiscard]] float mean_bits() const noexcept {
    int sum = 0;
    for (int i = 0; i < entropies.lanes; ++i) {
      LaneFacts lane;
      lane.layer = i;  // of one head each
      lane.heads = 1;
      sum += 2 + 2 * level(lane);
    }
    return entropies.lanes > 0 ? static_cast<float>(sum) / static_cast<float>(entropies.lanes)
                               : bits;
  }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept {
    return Selection::none();
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const&) const noexcept {
    return Selection::wanted_within(1);
  }

  KVFREEZE_HD Rungs rungs(LaneFacts const& lane) const noexcept {
    Rungs rungs;
    rungs.attended = detail::larger(lane.granules - lane.protected_granules, 0);
    int const own = level(lane);
    for (int i = 0; i < Rungs::most_levels; ++i) {
      rungs.above[i] = i < own ? rungs.attended : 0;
    }
    return rungs;
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("HeadBitsScheduler::mean_entropy", mean_entropy, 0, 64);
    detail::require_range("HeadBitsScheduler::bits", bits, 2, 6);
    detail::require_range("HeadBitsScheduler::alpha", alpha, 0, 4);
  }
};

static_assert(SchedulerPolicy<HeadBitsScheduler<>>);

}  // namespace kvfreeze
