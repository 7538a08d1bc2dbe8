#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>

namespace kvfreeze::detail {

/// @brief One step of a channel's importance: the sum of its squared queries, in the order in which
/// they came.
KVFREEZE_HD inline float add_square(float sum, float query) noexcept {
  constexpr float limit = 1e15F;  // squares and their sums stay finite
  float const x = clamped(query, -limit, limit);
  return fused(x, x, sum);
}

}  // namespace kvfreeze::detail
