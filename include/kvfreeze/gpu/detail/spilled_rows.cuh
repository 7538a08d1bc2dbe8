#pragma once

#include <kvfreeze/gpu/cached_slots.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// The device's own numbers of a spilling tier.
struct SpillStep {
  std::uint32_t step = 0;
  std::uint32_t buffer = 0;  ///< where this step's misses go
  std::uint32_t misses = 0;  ///< in it, those included for which there was no room
};

/// A block that a step missed, in one word.
struct Miss {
  static constexpr std::uint32_t urgent = 1U << 31U;

  std::uint32_t word = 0;

  /// Must one of its rows be exact?
  [[nodiscard]] bool is_urgent() const noexcept { return (word & urgent) != 0; }

  [[nodiscard]] std::uint32_t block() const noexcept { return word & ~urgent; }
};

/// One step's misses, in mapped memory: how many, then the blocks, each as a Miss.
struct MissBuffers {
  std::uint32_t* memory = nullptr;  ///< [buffer][1 + room]
  std::uint32_t room = 0;

  __device__ std::uint32_t* buffer(std::uint32_t i) const {
    return memory + std::size_t{i} * (std::size_t{room} + 1);
  }
};

/// @brief Granules of a SpillingTier, as kernels of a step see them: where they are, and whom to
/// tell that they are needed. A view; owns nothing. Lanes are numbered through all sequences.
struct SpilledRows {
  CachedSlots slots;
  std::uint32_t* needed = nullptr;  ///< [place]: step that needed it last; mapped
  SpillStep* now = nullptr;         ///< in device memory
  MissBuffers misses;

  /// @brief Is a granule there? The step needs it: its block is stamped for the host if it is
  /// there, and else written to the step's misses, once a step either way.
  /// @param urgent must it be exact?
  [[nodiscard]] __device__ bool ask(std::size_t lane, std::uint32_t granule,
                                    bool urgent = false) const {
    std::size_t const block = slots.block(lane, granule);
    CachedSlots::Entry& found = slots.blocks[block];
    std::uint32_t const step = now->step;
    bool const first = atomicExch(&found.stamp, step) != step;
    std::uint32_t const place = found.place;
    if (place != CachedSlots::absent) {
      if (first) {
        needed[place] = step;
      }
      return true;
    }
    if (first) {
      std::uint32_t const at = atomicAdd(&now->misses, 1U);
      if (at < misses.room) {
        misses.buffer(now->buffer)[1 + at] =
            static_cast<std::uint32_t>(block) | (urgent ? Miss::urgent : 0U);
      }
    }
    return false;
  }
};

}  // namespace kvfreeze::gpu::detail
