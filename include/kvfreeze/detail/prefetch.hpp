#pragma once

namespace kvfreeze::detail {

/// Asks for the cache line of p. Never faults.
inline void prefetch([[maybe_unused]] void const* p) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(p);
  asm volatile("");  // GCC 12 drops calls of functions that only prefetch
#endif
}

}  // namespace kvfreeze::detail
