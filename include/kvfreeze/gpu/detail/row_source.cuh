#pragma once

/// @file
/// @brief What attention takes rows from, as one warp sees it: where a tile's rows lie, their
/// logits under up to four query heads, and their values.
///
/// Eight rows and four heads are one logit a thread: thread t of the warp has row t / 4 of every
/// eight and head t % 4. Values are summed by channel: a few threads share a row, eight channels
/// each, and the warp's sums are added up at the end.

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int warp_heads = 4;       ///< query heads of a warp
inline constexpr int thread_channels = 8;  ///< of V, summed by one thread

/// Rows [first, first + rows) of a run.
struct TileSpan {
  std::uint32_t first = 0;
  std::uint32_t rows = 0;
};

/// @brief A kind of rows. All functions are called by whole warps.
///
/// `look_up` finds out what `copy` needs, in two steps: look_up(ahead, tile) takes the first one
/// for a tile, look_up(ahead, tile, next) the second one for it and the first one for the next.
/// They are called one and two tiles ahead, so that nothing waits for page numbers. Tiles may be
/// empty. `copy` starts copying a tile that has been looked up to a slot of shared memory. `given`
/// reads what `logits` needs and the slot does not have, a tile ahead too. `factor` is multiplied
/// with a row's weight. `accumulate` adds weight * value of all rows, `weights[r]` having the four
/// heads' of row r.
template <class S>
concept RowSource =
    requires(S const& source, typename S::Ahead& ahead, typename S::Given const& given,
             TileSpan tile, std::byte* slot, float (&logits)[S::tile_rows / 8],
             float4 const* weights, typename S::Sums& sums) {
      { S::slot_bytes } -> std::convertible_to<int>;
      { S::relative } -> std::convertible_to<bool>;  // to the mean value, and rotated
      source.look_up(ahead, tile);
      source.look_up(ahead, tile, tile);
      source.copy(ahead, tile, slot);
      { source.given(tile) } -> std::same_as<typename S::Given>;
      source.logits(slot, given, logits);
      source.note(tile, logits);  // what else is to be done with them
      { source.factor(slot, 0) } -> std::same_as<float>;
      source.accumulate(slot, weights, sums);
    };

__device__ inline unsigned warp_thread() { return threadIdx.x % 32; }

__device__ inline float lowest_logit() { return __uint_as_float(0xFF800000U); }

/// Which query heads a warp works for: `count` of them, at most four.
struct WarpHeads {
  std::uint32_t first = 0;  ///< among the lane's
  int count = 0;
};

/// Logits of a tile that somebody computed, in the threads that need them; of rows and heads that
/// are not there the lowest.
template <int Count>
struct GivenLogits {
  float logit[Count];
};

/// @brief Reads a thread's logits of a run's tiles.
class LogitReader {
 public:
  /// @param logits of the warp's first head and the run's first row
  /// @param stride, row_stride floats from head to head, from row to row
  __device__ LogitReader(float const* logits, std::size_t stride, std::uint32_t row_stride,
                         int heads) {
    unsigned const row = warp_thread() / warp_heads;
    unsigned const head = warp_thread() % warp_heads;
    own_ =
        reinterpret_cast<std::byte const*>(logits + head * stride + std::size_t{row} * row_stride);
    // Of a head that is not there no tile has any rows.
    missing_ = head < static_cast<unsigned>(heads) ? static_cast<int>(row) : no_rows;
  }

  template <int Count>
  __device__ GivenLogits<Count> read(TileSpan tile, std::uint32_t row_stride) const {
    // Steps in bytes: the compiler would scale each index anew.
    std::uint32_t const step = row_stride * static_cast<std::uint32_t>(sizeof(float));
    std::byte const* const first = own_ + std::size_t{tile.first} * step;
    int const left = static_cast<int>(tile.rows) - missing_;
    GivenLogits<Count> out;
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      auto const* const at = reinterpret_cast<float const*>(first + 8 * i * step);
      out.logit[i] = left > 8 * i ? __ldg(at) : lowest_logit();
    }
    return out;
  }

 private:
  static constexpr int no_rows = 1 << 16;

  std::byte const* own_;  ///< of the thread's first row
  int missing_;           ///< rows of a tile in front of the thread's
};

/// Nothing is given.
struct NoLogits {};

}  // namespace kvfreeze::gpu::detail
