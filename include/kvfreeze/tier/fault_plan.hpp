#pragma once

#include <cstdint>

namespace kvfreeze {

/// When a FaultInjecting tier fails.
struct FaultPlan {
  std::uint64_t call = 0;   ///< the n-th counted call fails, n >= 1; 0: none does
  bool in_store = true;     ///< stores are counted and fail
  bool in_load = true;      ///< loads are counted and fail
  bool in_fork = true;      ///< forks are counted and fail
  bool persistent = false;  ///< every counted call from the n-th on fails
};

}  // namespace kvfreeze
