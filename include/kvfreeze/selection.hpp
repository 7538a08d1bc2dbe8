#pragma once

#include <kvfreeze/config.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief A scheduler's wish, carried out by the backend with one integer histogram per lane.
///
/// A selection picks the granules of a lane that are *wanted exact*; the rest is low. Scores are
/// non-negative floats. Ties are broken by position: the older granule is wanted first.
struct Selection {
  enum class Kind : std::uint8_t {
    all,       ///< every candidate
    none,      ///< no candidate
    above,     ///< score >= value
    quantile,  ///< score >= the value-quantile of the candidates' scores, value in [0, 1]
    mass,      ///< all but the lowest candidates whose scores sum to at most value
    count,     ///< the `count` highest scores
    recent,    ///< wanted by a recall within the last `count` steps
  };

  Kind kind = Kind::all;
  float value = 0.0F;
  std::int32_t count = 0;

  KVFREEZE_HD static constexpr Selection all() noexcept { return {Kind::all, 0.0F, 0}; }

  KVFREEZE_HD static constexpr Selection none() noexcept { return {Kind::none, 0.0F, 0}; }

  KVFREEZE_HD static constexpr Selection above(float score) noexcept {
    return {Kind::above, score, 0};
  }

  KVFREEZE_HD static constexpr Selection above_quantile(float p) noexcept {
    return {Kind::quantile, p, 0};
  }

  /// All granules but the lowest, whose masses sum to at most `epsilon` (of 1).
  KVFREEZE_HD static constexpr Selection all_but_mass(float epsilon) noexcept {
    return {Kind::mass, epsilon, 0};
  }

  KVFREEZE_HD static constexpr Selection highest(std::int32_t granules) noexcept {
    return {Kind::count, 0.0F, granules};
  }

  KVFREEZE_HD static constexpr Selection wanted_within(std::int32_t steps) noexcept {
    return {Kind::recent, 0.0F, steps};
  }
};

}  // namespace kvfreeze
