#pragma once

/// @file
/// @brief The arena of a lane on the ladder: digests, exact rows and pools lie packed in one
/// region, so that they share their last page.

#include <kvfreeze/config.hpp>
#include <kvfreeze/host/rounding.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host {

inline constexpr std::size_t most_levels = 3;  ///< as in Rungs

// Segments in the order in which they lie: what changes its size most lies last, so that little has
// to move. Exact rows move with the digests alone, which change with the lane's length.
inline constexpr std::size_t arena_digests = 0;
inline constexpr std::size_t arena_rows = 1;
inline constexpr std::size_t arena_segments = 2 + most_levels;

/// Segment of a compact level's pool; the coarsest level's is the last one.
constexpr std::size_t arena_pool(std::size_t level) noexcept { return arena_segments - 1 - level; }

/// Blocks of each segment; a block of digests is a group.
using ArenaBlocks = std::array<std::int32_t, arena_segments>;

/// The larger one of each segment.
inline ArenaBlocks at_least(ArenaBlocks blocks, ArenaBlocks const& least) noexcept {
  for (std::size_t segment = 0; segment < arena_segments; ++segment) {
    blocks[segment] = std::max(blocks[segment], least[segment]);
  }
  return blocks;
}

/// @brief Sizes of the arenas of a cache.
struct ArenaGeometry {
  static constexpr std::size_t alignment = 64;  ///< of segments

  // Parts of an arena that may lie idle.
  static constexpr double any = 0.0;
  static constexpr double little = 1.0 / 64;
  static constexpr double much = 1.0 / 8;

  std::array<std::size_t, arena_segments> block_bytes{};
  std::size_t head_bytes = 0;  ///< before the first digest group

  /// Bytes of so many blocks of a segment.
  [[nodiscard]] std::size_t content_bytes(std::size_t segment, std::int32_t blocks) const noexcept {
    std::size_t const head = segment == arena_digests && blocks > 0 ? head_bytes : 0;
    return head + static_cast<std::size_t>(blocks) * block_bytes[segment];
  }

  /// The same, up to where the next segment may begin.
  [[nodiscard]] std::size_t segment_bytes(std::size_t segment, std::int32_t blocks) const noexcept {
    return round_up(content_bytes(segment, blocks), alignment);
  }

  /// Bytes of all segments.
  [[nodiscard]] std::size_t packed_bytes(ArenaBlocks const& blocks) const noexcept {
    std::size_t sum = 0;
    for (std::size_t segment = 0; segment < arena_segments; ++segment) {
      sum += segment_bytes(segment, blocks[segment]);
    }
    return sum;
  }

  /// Committed bytes: whole pages.
  [[nodiscard]] std::size_t bytes(ArenaBlocks const& blocks) const noexcept {
    return round_up(packed_bytes(blocks), page_bytes);
  }

  /// @brief The most blocks of a segment with which the arena fits `bytes`, whatever `blocks` says
  /// of it; 0 if the others do not fit.
  /// @param segment not the digests'
  [[nodiscard]] int most_blocks(ArenaBlocks blocks, std::size_t segment,
                                std::size_t bytes) const noexcept {
    blocks[segment] = 0;
    std::size_t const room = bytes / page_bytes * page_bytes;
    std::size_t const others = packed_bytes(blocks);
    // Blocks are multiples of the alignment: no rounding within a segment.
    std::size_t const most = room > others ? (room - others) / block_bytes[segment] : 0;
    return static_cast<int>(std::min(most, std::size_t{1} << 24));
  }

  /// @brief Do pages lie idle, and more than that part of what is needed? Moving segments together
  /// takes time in proportion to what is there.
  [[nodiscard]] bool is_loose(ArenaBlocks const& held, ArenaBlocks const& needed,
                              double part) const noexcept {
    auto const idle = static_cast<double>(packed_bytes(needed)) * part;
    return bytes(held) > bytes(needed) + static_cast<std::size_t>(idle);
  }
};

/// Where the segments of an arena begin.
struct ArenaStarts {
  /// Byte offset of a segment.
  [[nodiscard]] std::size_t operator[](std::size_t segment) const noexcept {
    return static_cast<std::size_t>(lines[segment]) * ArenaGeometry::alignment;
  }

  static ArenaStarts of(ArenaGeometry const& g, ArenaBlocks const& blocks) noexcept {
    ArenaStarts starts;
    std::size_t at = 0;
    for (std::size_t segment = 0; segment < arena_segments; ++segment) {
      starts.lines[segment] = static_cast<std::uint32_t>(at / ArenaGeometry::alignment);
      at += g.segment_bytes(segment, blocks[segment]);
    }
    return starts;
  }

  std::array<std::uint32_t, arena_segments> lines{};  ///< in units of the alignment
};

/// @brief Lays an arena out for other numbers of blocks: segments keep their first blocks, new ones
/// read as zero. Every byte up to the new end has been written then, and is committed; what lies
/// behind it is the caller's to release.
/// @complexity O(bytes behind the first segment whose size changes)
inline void lay_out(ArenaGeometry const& g, std::byte* base, ArenaBlocks const& from,
                    ArenaBlocks const& to) noexcept {
  auto const old_starts = ArenaStarts::of(g, from);
  auto const starts = ArenaStarts::of(g, to);
  auto const kept = [&](std::size_t i) { return g.content_bytes(i, std::min(from[i], to[i])); };
  auto const move = [&](std::size_t i) {
    if (std::size_t const bytes = kept(i); bytes > 0) {
      std::memmove(base + starts[i], base + old_starts[i], bytes);
    }
  };
  // Down from the first, then up from the last: nothing is moved onto what has yet to move.
  for (std::size_t i = 0; i < arena_segments; ++i) {
    if (starts[i] < old_starts[i]) {
      move(i);
    }
  }
  for (std::size_t i = arena_segments; i-- > 0;) {
    if (starts[i] > old_starts[i]) {
      move(i);
    }
  }
  for (std::size_t i = 0; i < arena_segments; ++i) {
    std::memset(base + starts[i] + kept(i), 0, g.segment_bytes(i, to[i]) - kept(i));
  }
}

}  // namespace kvfreeze::host
