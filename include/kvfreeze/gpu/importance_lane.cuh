#pragma once

#include <kvfreeze/element.hpp>

#include <cstddef>

namespace kvfreeze::gpu {

/// @brief The new queries of one KV head, and the sums that they are added to. Lies in device
/// memory, with device addresses.
template <Element T>
struct alignas(16) ImportanceLane {
  T const* queries = nullptr;  ///< of the first token, [heads][dim]
  std::ptrdiff_t stride = 0;   ///< elements from one token's to the next
  int tokens = 0;              ///< none: the lane is left out
  float* sums = nullptr;       ///< [dim], of squares by channel
};

}  // namespace kvfreeze::gpu
