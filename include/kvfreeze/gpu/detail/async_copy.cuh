#pragma once

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Starts copying 16 bytes from global to shared memory, past the first-level cache.
/// @pre both are multiples of 16
__device__ inline void start_copy_16(void* to, void const* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
                 "l"(__cvta_generic_to_global(from))
               : "memory");
}

/// Starts copying 16 bytes to shared memory, or puts zeros there.
__device__ inline void copy_or_clear(std::byte* to, void const* from, bool there) {
  if (there) {
    start_copy_16(to, from);
  } else {
    *reinterpret_cast<uint4*>(to) = uint4{0, 0, 0, 0};
  }
}

/// Closes a group of the thread's copies, which may be empty.
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }

/// Waits until at most `Open` of the thread's groups are under way.
template <int Open>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(Open) : "memory");
}

}  // namespace kvfreeze::gpu::detail
