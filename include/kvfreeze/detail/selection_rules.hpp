#pragma once

/// @file
/// @brief What a scheduler's selections mean in counts and fixed point, for host and device.

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/selection.hpp>

#include <cstdint>

namespace kvfreeze::detail {

/// A selection in terms of open granules: counts include the protected ones (scheduler's view).
KVFREEZE_HD constexpr Selection among_open(Selection selection, int protected_granules) noexcept {
  if (selection.kind == Selection::Kind::count) {
    selection.count = larger(selection.count - protected_granules, 0);
  }
  return selection;
}

/// A quantile as a count. It is taken over all open granules; those that are not here count as
/// lower than those that are, so that a lane cannot shrink itself away by comparing with its best.
KVFREEZE_HD constexpr Selection as_count(Selection const& selection, int open_granules) noexcept {
  if (selection.kind != Selection::Kind::quantile) {
    return selection;
  }
  float const share = clamped(selection.value, 0.0F, 1.0F);
  auto const low = static_cast<int>(share * static_cast<float>(open_granules));
  return Selection::highest(open_granules - low);
}

/// @brief Average of `width` neighbouring scores around `at`, in one order; scores outside of [0,
/// n) count as 0 (average pooling with zero padding).
KVFREEZE_HD inline float pooled(float const* scores, int n, int at, int width) noexcept {
  float sum = 0.0F;
  for (int i = larger(at - width / 2, 0); i <= at + width / 2 && i < n; ++i) {
    sum += scores[i];
  }
  return quotient(sum, static_cast<float>(width));
}

inline constexpr float masses_per_one = 0x1p30F;  ///< unit of masses, in parts of 1
inline constexpr float dots_per_nat = 4096.0F;    ///< unit of recall scores of |q.k|

/// A score in fixed point, rounded up; the largest integer where it does not fit.
/// @param units of a score of 1
KVFREEZE_HD constexpr std::uint32_t score_threshold(float score, float units) noexcept {
  float const scaled = score * units;
  if (scaled >= 0x1p32F) {
    return 0xFFFFFFFFU;
  }
  if (!(scaled > 0.0F)) {
    return 0;
  }
  auto const whole = static_cast<std::uint32_t>(scaled);
  return static_cast<float>(whole) < scaled ? whole + 1U : whole;
}

}  // namespace kvfreeze::detail
