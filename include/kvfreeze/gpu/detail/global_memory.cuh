#pragma once

/// @file
/// @brief What the compiler cannot know and is told.

#include <kvfreeze/gpu/code_pages.cuh>

namespace kvfreeze::gpu::detail {

/// @brief A pointer to global memory, said so: what is loaded from memory could point anywhere, and
/// would be reached by slower instructions.
template <class T>
__device__ T* global(T* p) {
  __builtin_assume(__isGlobal(p));
  return p;
}

__device__ inline CodePages global(CodePages pages) {
  pages.base = global(pages.base);
  pages.pages = global(pages.pages);
  return pages;
}

/// The thread's warp within its block, known to be one number for the whole warp.
__device__ inline unsigned warp_index() { return __shfl_sync(0xFFFFFFFFU, threadIdx.x / 32, 0); }

}  // namespace kvfreeze::gpu::detail
