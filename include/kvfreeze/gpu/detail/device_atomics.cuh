#pragma once

/// @file
/// @brief What blocks of one launch say to each other, in the memory model's words.
///
/// Not cuda::atomic_ref: a few instructions are not worth the seconds that its headers take to
/// compile.

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// What was released to the cell is seen from here on.
__device__ inline std::uint32_t load_acquire(std::uint32_t const* cell) {
  std::uint32_t value = 0;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(cell))
               : "memory");
  return value;
}

/// Releases what came before, and sees what others released. @return what the cell held
__device__ inline std::uint32_t add_acquire_release(std::uint32_t* cell, std::uint32_t x) {
  std::uint32_t before = 0;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(cell)), "r"(x)
               : "memory");
  return before;
}

/// As it is or was: nothing else is seen by it.
__device__ inline std::uint32_t load_relaxed(std::uint32_t const* cell) {
  std::uint32_t value = 0;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(cell))
               : "memory");
  return value;
}

__device__ inline void store_relaxed(std::uint32_t* cell, std::uint32_t value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;"
               :
               : "l"(__cvta_generic_to_global(cell)), "r"(value)
               : "memory");
}

}  // namespace kvfreeze::gpu::detail
