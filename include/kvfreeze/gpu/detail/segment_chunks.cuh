#pragma once

/// @file
/// @brief How the work on segments of any lengths is dealt to blocks, without a list and without
/// the host knowing the lengths: short segments get a block each, long ones a block for each chunk.

#include <kvfreeze/config.hpp>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/segments.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// A segment as a block sees it. `size` is 0 if its offsets do not fit.
struct Segment {
  std::uint32_t index = 0;
  std::uint32_t begin = 0;
  std::uint32_t size = 0;
  bool fits = false;
};

/// A block's part of a long segment: elements [from, to) of the array.
struct SegmentChunk {
  Segment segment;
  std::uint32_t first;  ///< number of the segment's first chunk
  std::size_t from;
  std::size_t to;
  bool exists;
  bool last;  ///< of the segment
};

/// @brief Deals segments to blocks.
///
/// Blocks [0, short_blocks()) have a segment each and do all of it unless it is long, that is more
/// than `longer_than` elements. The others, numbered from 0, have a chunk of a long segment each,
/// or nothing. The chunks of a long segment that begins at b are
///
///     first_chunk(b), first_chunk(b) + 1, …    first_chunk(b) = ⌊b / chunk⌋ + 2 ⌊b / longer_than⌋
///
/// n elements make at most ⌊n / chunk⌋ + 2 chunks (boundaries lie at multiples of 16 bytes, so the
/// first chunk may be short), and for n > longer_than first_chunk(b + n) >= first_chunk(b) +
/// ⌊n / chunk⌋ + 2: no two long segments share a number. So a block finds its segment by a search
/// of the offsets for the last one whose first chunk is not above its own number.
struct SegmentChunks {
  std::uint32_t const* offsets = nullptr;  ///< null: one segment of everything
  std::uint32_t segments = 0;
  std::uint32_t size = 0;         ///< elements of the array that segments may use
  std::uint32_t longest = 0;      ///< elements that a segment may have
  std::uint32_t longer_than = 0;  ///< 0: no segment is treated as long
  std::uint32_t chunk = 1;        ///< elements

  [[nodiscard]] KVFREEZE_HD std::uint32_t first_chunk(std::uint32_t begin) const noexcept {
    return begin / chunk + 2 * (begin / longer_than);
  }

  [[nodiscard]] std::uint32_t short_blocks() const noexcept { return segments; }

  /// Blocks for chunks of long segments; 0 if there can be none.
  [[nodiscard]] std::uint32_t long_blocks() const noexcept {
    return longer_than == 0 || size <= longer_than ? 0 : first_chunk(size);
  }

  /// Long segments have different ones, below long_slots().
  [[nodiscard]] KVFREEZE_HD std::uint32_t long_slot(std::uint32_t begin) const noexcept {
    return begin / longer_than;
  }

  [[nodiscard]] std::uint32_t long_slots() const noexcept {
    return long_blocks() == 0 ? 0 : size / longer_than + 1;
  }

  [[nodiscard]] KVFREEZE_HD bool is_long(Segment const& segment) const noexcept {
    return longer_than != 0 && size > longer_than && segment.size > longer_than;
  }

  [[nodiscard]] __device__ Segment segment(std::uint32_t s) const {
    Segment found{s, 0, size, true};
    if (offsets != nullptr) {
      std::uint32_t const begin = offsets[s];
      std::uint32_t const end = offsets[s + 1];
      found.fits = begin <= end && end <= size && end - begin <= longest;
      found.begin = found.fits ? begin : 0;
      found.size = found.fits ? end - begin : 0;
    }
    return found;
  }

  /// @brief The segment whose chunk `number` may be. Called by whole warps, each finds the same.
  ///
  /// 32 offsets a round: two rounds for a thousand segments.
  [[nodiscard]] __device__ Segment segment_of_chunk(std::uint32_t number) const {
    if (offsets == nullptr) {
      return segment(0);
    }
    std::uint32_t low = 0;
    std::uint32_t count = segments;  // candidates: [low, low + count)
    while (count > 1) {
      std::uint32_t const step = (count + 31) / 32;
      std::uint32_t const probe = threadIdx.x % 32 * step;
      bool const below = probe < count && first_chunk(min(offsets[low + probe], size)) <= number;
      auto const passed = static_cast<std::uint32_t>(__popc(__ballot_sync(0xFFFFFFFFU, below)));
      std::uint32_t const skip = (passed == 0 ? 0 : passed - 1) * step;
      low += skip;
      count = min(step, count - skip);
    }
    return segment(low);
  }

  /// @brief The chunk with a number. Called by whole warps, each finds the same.
  /// @param array chunks end where addresses in it are multiples of 16 bytes, so the first is short
  template <class T>
  [[nodiscard]] __device__ SegmentChunk chunk_of(std::uint32_t number, T const* array) const {
    SegmentChunk found;
    found.segment = segment_of_chunk(number);
    std::size_t const begin = found.segment.begin;
    std::size_t const end = begin + found.segment.size;
    found.first = first_chunk(found.segment.begin);
    std::size_t const misaligned = reinterpret_cast<std::uintptr_t>(array + begin) % 16 / sizeof(T);
    std::size_t const behind = begin + std::size_t{number - found.first + 1} * chunk - misaligned;
    found.from = number == found.first ? begin : behind - chunk;
    found.to = min(end, behind);
    found.exists = is_long(found.segment) && number >= found.first && found.from < end;
    found.last = end <= behind;
    return found;
  }
};

/// @brief A plan for `size` elements.
/// @param longer_than what one block does in about the time of the launches it saves
/// @param chunk elements for a block; doubled until there are at most `most` chunks, as every block
///   of a long segment may look at all chunks before its own
inline SegmentChunks plan_chunks(Segments const& batch, std::size_t size, std::uint32_t longer_than,
                                 std::uint32_t chunk, std::uint32_t most = 4096) {
  SegmentChunks plan;
  plan.offsets = batch.offsets.data();
  plan.segments = static_cast<std::uint32_t>(batch.size());
  plan.size = static_cast<std::uint32_t>(std::min<std::size_t>(size, 0xFFFFFFFFU));
  plan.longest = static_cast<std::uint32_t>(std::min<std::size_t>(batch.longest, 0xFFFFFFFFU));
  plan.longer_than = batch.longest > longer_than ? longer_than : 0;
  while (size / chunk > most) {
    chunk *= 2;
  }
  plan.chunk = chunk;
  return plan;
}

}  // namespace kvfreeze::gpu::detail
