#pragma once

#include <kvfreeze/config.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Logits of a lane's compact rows under all of its queries, row by row: rows come in any
/// order, and all logits of one lie in a sector or two.
struct CodedLogits {
  float* base = nullptr;
  std::uint32_t width = 1;  ///< floats from row to row

  /// One query, two, or a multiple of four.
  [[nodiscard]] static KVFREEZE_HD constexpr int width_of(int queries) noexcept {
    return queries <= 2 ? queries : (queries + 3) / 4 * 4;
  }

  [[nodiscard]] __device__ float* row(std::size_t row) const { return base + row * width; }

  /// @brief Behind an odd number of queries one more may be read.
  /// @param queries of the lane
  __device__ void pad(std::size_t at, int queries) const {
    if (queries % 2 != 0 && width > 1) {
      row(at)[queries] = 0.0F;
    }
  }
};

}  // namespace kvfreeze::gpu::detail
