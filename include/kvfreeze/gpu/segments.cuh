#pragma once

#include <kvfreeze/gpu/memory.cuh>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvfreeze::gpu {

/// @brief A batch of segments of one array: segment s is [offsets[s], offsets[s + 1]).
///
/// The offsets lie on the device, ascend and end at most at the array's size. Elements outside all
/// segments are left alone.
struct Segments {
  /// `longest` when nothing is known.
  static constexpr std::size_t any_length = std::numeric_limits<std::size_t>::max();

  Span<std::uint32_t const> offsets;  ///< one more than there are segments; or empty: no segments

  /// No segment has more elements. Saves launches where it is small; one that has more all the same
  /// counts as bad.
  std::size_t longest = any_length;

  Segments() = default;

  Segments(Span<std::uint32_t const> begins_and_end,  // NOLINT(*-explicit-*)
           std::size_t longest_segment = any_length) noexcept
      : offsets(begins_and_end), longest(longest_segment) {}

  Segments(DeviceArray<std::uint32_t> const& begins_and_end,  // NOLINT(*-explicit-*)
           std::size_t longest_segment = any_length) noexcept
      : offsets(begins_and_end.span()), longest(longest_segment) {}

  [[nodiscard]] std::size_t size() const noexcept {
    return offsets.empty() ? 0 : offsets.size() - 1;
  }
};

}  // namespace kvfreeze::gpu
