#pragma once

/// @file
/// @brief Stable stream compaction of segments.
///
/// A short segment is one block's, tile by tile. The chunks of a long one are counted in a first
/// launch; in a second each adds up the counts before its own and moves its values. Within a tile
/// the places of what stays are listed in shared memory, so that values are read in order and
/// written without gaps whatever their size; values that go are not read.

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/segment_checks.cuh>
#include <kvfreeze/gpu/detail/segment_chunks.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cub/block/block_scan.cuh>
#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>

namespace kvfreeze::gpu::detail {

inline constexpr int compact_threads = 512;
inline constexpr int compact_items = 16;  ///< flags that a thread loads at once
inline constexpr std::uint32_t compact_tile = compact_items * compact_threads;
/// Estimated, not measured: a block's two tiles take as long as the launch that they save.
inline constexpr std::uint32_t compact_longer_than = 2 * compact_tile;

template <std::size_t Alignment>
struct ValueWord;

template <>
struct ValueWord<1> {
  using type = std::uint8_t;
};

template <>
struct ValueWord<2> {
  using type = std::uint16_t;
};

template <>
struct ValueWord<4> {
  using type = std::uint32_t;
};

template <>
struct ValueWord<8> {
  using type = std::uint64_t;
};

template <>
struct ValueWord<16> {
  using type = uint4;
};

/// The bits of a value: types of one size and alignment share their kernels.
template <std::size_t Size, std::size_t Alignment>
struct ValueBits {
  typename ValueWord<Alignment>::type words[Size / Alignment];
};

template <class T>
using ValueBitsOf = ValueBits<sizeof(T), alignof(T)>;

/// Blocks that a processor holds: 16 values of each thread are in registers at a time.
template <class Source>
inline constexpr int compact_blocks = sizeof(typename Source::Value) <= 4 ? 2 : 1;

/// Values to move.
template <class B>
struct CompactValues {
  using Value = B;
  B const* values = nullptr;

  [[nodiscard]] __device__ B at(std::size_t i, std::size_t) const { return values[i]; }
};

/// Positions themselves, counted from the segment's begin.
struct CompactPositions {
  using Value = std::uint32_t;

  [[nodiscard]] __device__ std::uint32_t at(std::size_t i, std::size_t begin) const {
    return static_cast<std::uint32_t>(i - begin);
  }
};

template <class Source>
struct CompactTask {
  Source source;
  SegmentChunks chunks;
  std::uint8_t const* flags = nullptr;
  typename Source::Value* out = nullptr;
  std::size_t room = 0;                   ///< elements of `out`
  std::uint32_t* counts = nullptr;        ///< [segments]
  std::uint32_t* chunk_counts = nullptr;  ///< [chunk] of long segments
};

struct CompactStorage {
  using Scan = cub::BlockScan<std::uint32_t, compact_threads, cub::BLOCK_SCAN_WARP_SCANS>;

  typename Scan::TempStorage scan;
  std::uint16_t places[compact_tile + compact_tile / 32];
  std::uint32_t number;

  /// @brief Place within the tile of the i-th value that stays.
  ///
  /// A word is left out after each 32: where all stay, neighbours write 8 words apart.
  [[nodiscard]] __device__ std::uint16_t& place(std::uint32_t i) { return places[i + i / 64 * 2]; }
};

/// @brief A block's flags: those of [from, to), tile by tile. Positions count from the multiple of
/// 16 bytes at or before flag `from`.
struct CompactRun {
  std::uint8_t const* base;
  std::size_t first;  ///< position of the first flag
  std::size_t end;    ///< position behind the last
  std::size_t zero;   ///< element of the array at position 0, may wrap around below 0

  __device__ CompactRun(std::uint8_t const* flags, std::size_t from, std::size_t to)
      : first(reinterpret_cast<std::uintptr_t>(flags + from) % 16),
        end(first + (to - from)),
        zero(from - first) {
    base = flags + from - first;
  }

  /// This thread's 16 flags of the tile at a position: bit i is set if flag i is.
  [[nodiscard]] __device__ std::uint32_t flags_at(std::size_t tile) const {
    std::size_t const at = tile + threadIdx.x * compact_items;
    std::uint32_t set = 0;
    if (at >= first && at + compact_items <= end) {
      uint4 const bytes = *reinterpret_cast<uint4 const*>(base + at);
      set = bits(bytes.x) | bits(bytes.y) << 4 | bits(bytes.z) << 8 | bits(bytes.w) << 12;
    } else if (at < end) {
#pragma unroll 1  // only at both ends
      for (std::uint32_t i = 0; i < compact_items; ++i) {
        if (at + i >= first && at + i < end && base[at + i] != 0) {
          set |= 1U << i;
        }
      }
    }
    return set;
  }

  /// Which of four bytes are not zero.
  [[nodiscard]] static __device__ std::uint32_t bits(std::uint32_t bytes) {
    return (__vcmpne4(bytes, 0) & 0x01010101U) * 0x10204080U >> 28;
  }

  /// How many flags are set. Called by the whole block.
  [[nodiscard]] __device__ std::uint32_t count(CompactStorage& shared) const {
    std::uint32_t own = 0;
    for (std::size_t tile = 0; tile < end; tile += compact_tile) {
      own += static_cast<std::uint32_t>(__popc(flags_at(tile)));
    }
    return block_sum(own, shared.number);
  }

  /// @brief Moves what is flagged to out[to …]. Called by the whole block.
  /// @param begin of the segment
  /// @return how many
  template <class Source>
  __device__ std::uint32_t move(CompactTask<Source> const& task, CompactStorage& shared,
                                std::size_t begin, std::size_t to) const {
    std::uint32_t moved = 0;
    for (std::size_t tile = 0; tile < end; tile += compact_tile) {
      std::uint32_t const set = flags_at(tile);
      std::uint32_t rank = 0;
      std::uint32_t total = 0;
      CompactStorage::Scan(shared.scan)
          .ExclusiveSum(static_cast<std::uint32_t>(__popc(set)), rank, total);
#pragma unroll
      for (std::uint32_t i = 0; i < compact_items; ++i) {
        if ((set >> i & 1U) != 0) {
          shared.place(rank++) = static_cast<std::uint16_t>(threadIdx.x * compact_items + i);
        }
      }
      __syncthreads();
      typename Source::Value kept[compact_items];
#pragma unroll
      for (std::uint32_t i = 0; i < compact_items; ++i) {
        std::uint32_t const place = i * compact_threads + threadIdx.x;
        if (place < total) {
          kept[i] = task.source.at(zero + tile + shared.place(place), begin);
        }
      }
      __syncthreads();  // all are read before one is overwritten, if `out` is where they are
#pragma unroll
      for (std::uint32_t i = 0; i < compact_items; ++i) {
        std::uint32_t const place = i * compact_threads + threadIdx.x;
        if (place < total && to + moved + place < task.room) {
          task.out[to + moved + place] = kept[i];
        }
      }
      moved += total;
    }
    return moved;
  }
};

/// First launch: moves within short segments, counts the chunks of long ones.
template <class Source>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(compact_threads,
                                                                        compact_blocks<Source>)
    compact_kernel(CompactTask<Source> const task) {
  __shared__ CompactStorage shared;
  if (blockIdx.x < task.chunks.segments) {
    Segment const segment = task.chunks.segment(blockIdx.x);
    if (task.chunks.is_long(segment)) {
      return;
    }
    CompactRun const run(task.flags, segment.begin, std::size_t{segment.begin} + segment.size);
    std::uint32_t const moved =
        segment.size == 0 ? 0U : run.move(task, shared, segment.begin, segment.begin);
    if (threadIdx.x == 0) {
      task.counts[segment.index] = moved;
    }
    return;
  }
  std::uint32_t const number = blockIdx.x - task.chunks.segments;
  SegmentChunk const chunk = task.chunks.chunk_of(number, task.flags);
  if (chunk.exists) {
    std::uint32_t const count = CompactRun(task.flags, chunk.from, chunk.to).count(shared);
    if (threadIdx.x == 0) {
      task.chunk_counts[number] = count;
    }
  }
}

/// Second launch: moves the values of long segments.
template <class Source>
__global__ __attribute__((visibility("hidden"))) void __launch_bounds__(compact_threads,
                                                                        compact_blocks<Source>)
    compact_long_kernel(CompactTask<Source> const task) {
  __shared__ CompactStorage shared;
  SegmentChunk const chunk = task.chunks.chunk_of(blockIdx.x, task.flags);
  if (!chunk.exists) {
    return;
  }
  std::uint32_t before = 0;
  for (std::uint32_t i = chunk.first + threadIdx.x; i < blockIdx.x; i += compact_threads) {
    before += task.chunk_counts[i];
  }
  before = block_sum(before, shared.number);
  CompactRun const run(task.flags, chunk.from, chunk.to);
  std::uint32_t const moved =
      run.move(task, shared, chunk.segment.begin, std::size_t{chunk.segment.begin} + before);
  if (chunk.last && threadIdx.x == 0) {
    task.counts[chunk.segment.index] = before + moved;
  }
}

inline SegmentChunks plan_compact(Segments const& batch, std::size_t size) {
  return plan_chunks(batch, size, compact_longer_than, compact_tile);
}

inline std::size_t compact_workspace(std::size_t size, std::size_t longest) {
  WorkspaceLayout layout;
  layout.take<std::uint32_t>(
      plan_compact(Segments(Span<std::uint32_t const>(), longest), size).long_blocks());
  layout.take<std::uint32_t>(1);  // a count, for functions that wait
  return layout.bytes();
}

/// @brief Launches a compaction whose arguments were checked.
/// @param whole there are no offsets: one segment of everything
template <class Source>
void launch_compact(Source const& source, Span<std::uint8_t const> flags, Segments const& batch,
                    bool whole, Span<typename Source::Value> out, Span<std::uint32_t> counts,
                    Span<std::byte> workspace, ::cuda::stream_ref stream) {
  CompactTask<Source> task;
  task.source = source;
  task.chunks = plan_compact(batch, flags.size());
  if (whole) {
    task.chunks.offsets = nullptr;
    task.chunks.segments = 1;
  }
  if (task.chunks.segments == 0) {
    return;
  }
  task.flags = flags.data();
  task.out = out.data();
  task.room = out.size();
  task.counts = counts.data();
  std::uint32_t const long_blocks = task.chunks.long_blocks();
  WorkspaceLayout layout(workspace.data());
  task.chunk_counts = layout.take<std::uint32_t>(long_blocks);
  compact_kernel<Source>
      <<<task.chunks.segments + long_blocks, compact_threads, 0, stream.get()>>>(task);
  check_launch("compact_kernel");
  if (long_blocks != 0) {
    compact_long_kernel<Source><<<long_blocks, compact_threads, 0, stream.get()>>>(task);
    check_launch("compact_long_kernel");
  }
}

template <class T>
void launch_compact_values(Span<std::uint8_t const> flags, Span<T const> values,
                           Segments const& batch, bool whole, Span<T> out,
                           Span<std::uint32_t> counts, Span<std::byte> workspace,
                           ::cuda::stream_ref stream) {
  using B = ValueBitsOf<T>;
  CompactValues<B> const source{reinterpret_cast<B const*>(values.data())};
  launch_compact(source, flags, batch, whole, Span<B>(reinterpret_cast<B*>(out.data()), out.size()),
                 counts, workspace, stream);
}

/// @brief What can be said of a compaction's arguments without waiting.
/// @throws InvalidArgument
inline void check_compact(char const* function, Span<std::uint8_t const> flags,
                          Segments const& batch, bool whole, Span<std::uint32_t> counts,
                          Span<std::byte> workspace) {
  if (whole && flags.size() > 0xFFFFFFFFU) {
    throw InvalidArgument(std::string(function) + ": flags has " + std::to_string(flags.size()) +
                          " elements, expected at most 4294967295");
  }
  host::detail::check_size(function, whole ? "count" : "counts", counts.size(),
                           whole ? 1 : batch.size());
  check_segment_count(function, batch.size());
  check_workspace(function, workspace, compact_workspace(flags.size(), batch.longest));
}

/// @brief Runs a compaction, or throws before anything is written.
/// @param run run(out, count) enqueues it
template <class T, class Run>
std::size_t wait_for_compact(char const* function, Span<std::uint8_t const> flags, Span<T> out,
                             Span<std::byte> workspace, ::cuda::stream_ref stream, Run const& run) {
  std::size_t const needed = compact_workspace(flags.size(), Segments::any_length);
  check_workspace(function, workspace, needed);
  auto* const last = workspace.data() + needed - workspace_alignment;
  Span<std::uint32_t> const count(reinterpret_cast<std::uint32_t*>(last), 1);
  auto const counted = [&](Span<T> room) {
    run(room, count);
    return read_back(Span<std::uint32_t const>(count), stream).front();
  };
  // Without room nothing is written, but all are counted.
  std::size_t const flagged = out.size() < flags.size() ? counted(Span<T>()) : 0;
  if (out.size() < flagged) {
    throw InvalidArgument(std::string(function) + ": out has " + std::to_string(out.size()) +
                          " elements, but " + std::to_string(flagged) + " are flagged");
  }
  return counted(out);
}

inline std::size_t sum_of_counts(Span<std::uint32_t const> counts, ::cuda::stream_ref stream) {
  auto const values = read_back(counts, stream);
  return std::accumulate(values.begin(), values.end(), std::size_t{0});
}

/// @brief Do values and output share memory in a way that the launches do not stand?
///
/// They stand one begin if every segment is one block's, which reads a tile before it writes it.
/// @throws InvalidArgument
template <class T>
void check_apart(char const* function, Span<T const> values, Span<T> out, Segments const& batch) {
  std::less<T const*> const before;
  T const* const in = values.data();
  T const* const to = out.data();
  bool const apart = values.empty() || out.empty() || !before(to, in + values.size()) ||
                     !before(in, to + out.size());
  if (apart || (in == to && plan_compact(batch, values.size()).long_blocks() == 0)) {
    return;
  }
  throw InvalidArgument(std::string(function) + ": out overlaps values" +
                        (in == to ? ", with segments of more than " +
                                        std::to_string(compact_longer_than) + " elements"
                                  : std::string()));
}

}  // namespace kvfreeze::gpu::detail
