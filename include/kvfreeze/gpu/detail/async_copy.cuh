#pragma once

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Of something in shared memory, as instructions take it.
__device__ inline std::uint32_t shared_address(void const* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// @brief Starts copying 16 bytes from global to shared memory, past the first-level cache, or
/// putting zeros there.
/// @param to of shared_address(); both are multiples of 16
/// @param there false: nothing is read
__device__ inline void copy_or_clear(std::uint32_t to, void const* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
               : "memory");
}

/// Closes a group of the thread's copies, which may be empty.
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }

/// Waits until at most `Open` of the thread's groups are under way.
template <int Open>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(Open) : "memory");
}

}  // namespace kvfreeze::gpu::detail
