#pragma once

#include <kvfreeze/gpu/code_pages.cuh>

#include <cstdint>

namespace kvfreeze::gpu {

/// @brief One lane of a batched scan: its digests, its queries, and where its logits go.
///
/// Lies in device memory, where the step that decides on it has written it.
struct alignas(16) DigestLane {
  CodePages groups;
  std::uint32_t count = 0;              ///< groups; none: the lane is left out
  std::uint32_t stride = 0;             ///< floats from head to head of the logits
  float const* query = nullptr;         ///< [heads][dim], q * scale * log2(e), aligned to 16
  float* logits = nullptr;              ///< `logits[h * stride + row]`, octaves
  std::uint8_t const* awake = nullptr;  ///< [count], 0: the group is not scanned; null: all are
};

}  // namespace kvfreeze::gpu
