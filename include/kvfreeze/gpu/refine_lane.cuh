#pragma once

#include <kvfreeze/gpu/code_pages.cuh>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief One lane of a batched refinement: rows of a pool that have more bits of their keys than
/// the digests, and whose logits are to show it.
///
/// Lies in device memory, where the step that decides on it has written it.
struct alignas(16) RefineLane {
  CodePages groups;                     ///< the lane's digests
  CodePages residuals;                  ///< the lower bits of the rows' keys, in order of the pool
  std::uint32_t const* rows = nullptr;  ///< [count] numbers of the rows in the lane; neighbours of
                                        ///< one group are cheaper
  std::uint32_t count = 0;              ///< rows; none: the lane is left out
  std::uint32_t stride = 0;             ///< floats from head to head of `logits`
  float const* query = nullptr;         ///< [heads][dim], q * scale * log2(e), aligned to 16
  float* logits = nullptr;              ///< `logits[h * stride + i]`, octaves
  float const* screen = nullptr;  ///< the scan's, `screen[h * screen_stride + rows[i]]`; null:
                                  ///< `logits` has them already
  std::uint32_t screen_stride = 0;
};

}  // namespace kvfreeze::gpu
