#pragma once

#include <kvfreeze/gpu/decode_shape.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace kvfreeze::gpu::detail {

/// @brief The grid of a launch over lanes, and how a block's warps share the heads.
struct AttentionGrid {
  unsigned blocks = 1;
  unsigned passes = 1;
  int heads = 1;        ///< query heads of a pass
  int head_groups = 1;  ///< warps that share tiles
};

/// Passes over `group` query heads, and how warps share those of a pass.
template <class Sizes>
AttentionGrid share_heads(int group) {
  AttentionGrid grid;
  int const passes = (group + Sizes::most_heads - 1) / Sizes::most_heads;
  grid.passes = static_cast<unsigned>(passes);
  grid.heads = (group + passes - 1) / passes;
  while (grid.heads > 4 * grid.head_groups) {
    grid.head_groups *= 2;
  }
  return grid;
}

/// @param tile_rows of the shortest tile
/// @throws CudaError if there is no device
template <class Sizes>
AttentionGrid attention_grid(DecodeShape const& shape, std::size_t lanes, int runs, int tile_rows) {
  AttentionGrid grid = share_heads<Sizes>(shape.group);
  int blocks = shape.blocks;
  if (blocks == 0) {
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    int multiprocessors = 0;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
          "cudaDeviceGetAttribute");
    blocks = multiprocessors * Sizes::blocks_per_multiprocessor;
  }
  // A block's warps have a tile each, or there are fewer blocks.
  auto const tiles_of_longest =
      static_cast<double>(shape.longest) / tile_rows + static_cast<double>(runs);
  double const most = tiles_of_longest * static_cast<double>(lanes) / Sizes::warps + 1.0;
  grid.blocks = most < blocks ? static_cast<unsigned>(most) : static_cast<unsigned>(blocks);
  return grid;
}

/// Elements of a head that kernels are made for.
constexpr int slot_dim(int dim) noexcept { return dim <= 64 ? 64 : dim <= 128 ? 128 : 256; }

/// @brief Calls f(std::integral_constant<int, Dim>) for the smallest of 64, 128 and 256 that holds
/// `dim`; or, with a bound, that holds the bound, so that there is one instantiation.
/// @tparam MaxDim `dim` is not above it; 0: no bound
template <int MaxDim = 0, class F>
decltype(auto) with_slot_dim(int dim, F const& f) {
  if constexpr (MaxDim > 0) {
    return f(std::integral_constant<int, slot_dim(MaxDim)>{});
  } else {
    switch (slot_dim(dim)) {
      case 64:
        return f(std::integral_constant<int, 64>{});
      case 128:
        return f(std::integral_constant<int, 128>{});
      default:
        return f(std::integral_constant<int, 256>{});
    }
  }
}

/// @throws InvalidArgument if an array has another size than the lanes and the shape say
inline void check_extent(char const* function, char const* array, std::size_t size,
                         std::size_t expected, char const* extents) {
  if (size != expected) {
    throw InvalidArgument(std::string(function) + ": " + array + " has " + std::to_string(size) +
                          " elements, expected " + std::to_string(expected) + ", " + extents);
  }
}

/// @throws InvalidArgument if a view of float does not begin at a multiple of 16 bytes
template <class T>
void check_alignment(char const* function, char const* array, Span<T> span) {
  auto const address = reinterpret_cast<std::uintptr_t>(span.data());
  if (address % 16 != 0) {
    throw InvalidArgument(std::string(function) + ": " + array + " begins " +
                          std::to_string(address % 16) + " bytes past a multiple of 16");
  }
}

/// Lets a kernel have `bytes` of shared memory. Neither waits nor allocates.
template <class Kernel>
void allow_shared_memory(Kernel kernel, std::size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
}

}  // namespace kvfreeze::gpu::detail
