#pragma once

#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/tier_slots.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvfreeze::gpu::detail {

/// @brief Stands in for PinnedTier where no row lies outside of the device: it holds nothing.
class NoTier {
 public:
  explicit NoTier(TierGeometry const& geometry) : open_(geometry.sequences, false) {}

  void open(std::uint32_t sequence, ::cuda::stream_ref) { open_[sequence] = true; }

  /// @throws CudaError what the work on the stream failed with; the sequence is closed
  void close(std::uint32_t sequence, ::cuda::stream_ref stream) {
    open_[sequence] = false;
    check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  }

  [[nodiscard]] bool is_open(std::uint32_t sequence) const noexcept { return open_[sequence]; }

  [[nodiscard]] static constexpr bool is_pinned() noexcept { return true; }

  [[nodiscard]] static std::string warning() { return {}; }

  [[nodiscard]] static constexpr std::size_t slab_bytes() noexcept { return 0; }

  [[nodiscard]] static constexpr std::size_t bytes() noexcept { return 0; }

  [[nodiscard]] static constexpr std::size_t device_bytes() noexcept { return 0; }

 private:
  std::vector<bool> open_;
};

}  // namespace kvfreeze::gpu::detail
