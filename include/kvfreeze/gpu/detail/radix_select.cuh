#pragma once

/// @file
/// @brief What one block does in a radix select, on a whole segment or on a chunk of a long one.

#include <kvfreeze/gpu/detail/block_sum.cuh>
#include <kvfreeze/gpu/detail/segment_chunks.cuh>
#include <kvfreeze/gpu/detail/select_rules.cuh>

#include <cub/block/block_scan.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int select_quads = 2;  ///< four neighbours each, of a thread and tile
inline constexpr int select_items = 4 * select_quads;
inline constexpr std::uint32_t select_tile = select_items * select_threads;  ///< elements
inline constexpr int select_digits = 3;                                      ///< 11, 11, 10 bits

/// Bits below a digit.
KVFREEZE_HD constexpr int digit_shift(int digit) noexcept {
  return digit == 0 ? 21 : digit == 1 ? 10 : 0;
}

KVFREEZE_HD constexpr std::uint32_t digit_cells(int digit) noexcept {
  return digit == 2 ? select_cells / 2 : select_cells;
}

/// @brief Some elements for each thread: quads of neighbours, each of them one load where all are
/// there. Positions count from a multiple of 16 bytes.
template <class Rule>
struct SelectTile {
  using Element = typename Rule::Element;
  static_assert(sizeof(Element) == 4);

  std::uint32_t key[select_items];
  std::uint32_t valid;  ///< bit i: key[i] is an element's

  /// Position of the first of four neighbours.
  [[nodiscard]] static __device__ std::uint32_t place(int quad) {
    return static_cast<std::uint32_t>(quad) * (4 * select_threads) + 4 * threadIdx.x;
  }

  [[nodiscard]] __device__ bool has(int i) const { return (valid >> i & 1U) != 0; }

  [[nodiscard]] __device__ std::uint32_t has_of(int quad) const {
    return valid >> (4 * quad) & 0xFU;
  }

  /// The elements are those at positions [first, end).
  __device__ void bound(std::uint32_t first, std::uint32_t end) {
    valid = 0;
#pragma unroll
    for (int quad = 0; quad < select_quads; ++quad) {
      // Ones from `first` on, without those from `end` on.
      std::uint32_t const at = place(quad);
      std::uint32_t const from = first > at ? min(first - at, 4U) : 0U;
      std::uint32_t const to = end > at ? min(end - at, 4U) : 0U;
      valid |= (0xFU << from & ~(0xFU << to) & 0xFU) << (4 * quad);
    }
  }

  /// @param tile the address of position 0. Only elements are read.
  __device__ void load(Element const* tile) {
    uint4 four[select_quads];
#pragma unroll
    for (int quad = 0; quad < select_quads; ++quad) {  // all loads before the first use
      Element const* const from = tile + place(quad);
      std::uint32_t const here = has_of(quad);
      if (here == 0xFU) {
        four[quad] = *reinterpret_cast<uint4 const*>(from);
      } else {
        auto const* const words = reinterpret_cast<std::uint32_t const*>(from);
        four[quad].x = (here & 1U) != 0 ? words[0] : 0U;
        four[quad].y = (here & 2U) != 0 ? words[1] : 0U;
        four[quad].z = (here & 4U) != 0 ? words[2] : 0U;
        four[quad].w = (here & 8U) != 0 ? words[3] : 0U;
      }
    }
#pragma unroll
    for (int quad = 0; quad < select_quads; ++quad) {
      key[4 * quad] = Rule::key(__builtin_bit_cast(Element, four[quad].x));
      key[4 * quad + 1] = Rule::key(__builtin_bit_cast(Element, four[quad].y));
      key[4 * quad + 2] = Rule::key(__builtin_bit_cast(Element, four[quad].z));
      key[4 * quad + 3] = Rule::key(__builtin_bit_cast(Element, four[quad].w));
    }
  }
};

/// What the threads of a block share.
template <class Rule>
struct SelectStorage {
  // Raking scans, the default, take more registers than there are.
  using SumScan = cub::BlockScan<typename Rule::Sum, select_threads, cub::BLOCK_SCAN_WARP_SCANS>;
  using PlaceScan = cub::BlockScan<std::uint32_t, select_threads, cub::BLOCK_SCAN_WARP_SCANS>;

  SelectHistogram<Rule> histogram;

  union {
    typename SumScan::TempStorage sums;
    typename PlaceScan::TempStorage places;
  };

  SelectState<typename Rule::Sum> state;
  std::uint32_t number;
};

/// @brief A block's elements and what it finds out about them.
///
/// Every function is called by the whole block and leaves shared memory free for the next.
template <class Rule>
class SelectRun {
 public:
  using Element = typename Rule::Element;
  using Sum = typename Rule::Sum;
  using State = SelectState<Sum>;

  /// @param from,to elements of the array; not none
  __device__ SelectRun(SelectStorage<Rule>& storage, Element const* input, std::uint8_t* selected,
                       std::size_t from, std::size_t to)
      : shared_(storage) {
    std::size_t const misaligned =
        reinterpret_cast<std::uintptr_t>(input + from) % 16 / sizeof(Element);
    base_ = input + from - misaligned;
    selected_ = selected + from - misaligned;
    first_ = static_cast<std::uint32_t>(misaligned);
    end_ = misaligned + (to - from);
  }

  [[nodiscard]] __device__ std::size_t end() const { return end_; }

  /// Positions that one histogram takes.
  static constexpr std::size_t piece = SelectHistogram<Rule>::most;

  /// Weights by a digit, of the elements at positions [at, at + piece) that begin as is known.
  __device__ void count(State const& state, int digit, std::size_t at = 0) {
    int const shift = digit_shift(digit);
    std::uint32_t const last = digit_cells(digit) - 1;
    std::uint32_t const known = digit == 0 ? 0U : ~0U << digit_shift(digit - 1);
    shared_.histogram.clear();
    __syncthreads();
    std::size_t const stop = min(end_, at + piece);
    for (; at < stop; at += select_tile) {
      take(at);
#pragma unroll
      for (int i = 0; i < select_items; ++i) {
        std::uint32_t const key = tile_.key[i];
        shared_.histogram.add(tile_.has(i) && ((key ^ state.key) & known) == 0, key >> shift & last,
                              key);
      }
    }
    __syncthreads();
  }

  /// @brief What `count` found in this thread's cells; threads have them from the highest down.
  /// Followed by a barrier before the next `count`.
  [[nodiscard]] __device__ SelectSums<Sum> counted(int digit) const {
    std::uint32_t const above = (threadIdx.x + 1) * select_own_cells;
    return above <= digit_cells(digit) ? shared_.histogram.sums(digit_cells(digit) - above)
                                       : SelectSums<Sum>{};
  }

  /// @brief The state with one digit more.
  /// @param own sums of this thread's cells over the whole segment
  __device__ State descend(Rule const& rule, Segment const& segment, State state, int digit,
                           SelectSums<Sum> const& own) {
    Sum here = 0;
#pragma unroll
    for (Sum const sum : own.of) {
      here += sum;
    }
    Sum before = 0;
    Sum total = 0;
    typename SelectStorage<Rule>::SumScan(shared_.sums).ExclusiveSum(here, before, total);
    if (digit == 0) {
      state.left = rule.goal(segment, total);
      state.nothing = state.left == 0;
    }
    if (threadIdx.x == 0) {
      shared_.state = state;
      shared_.state.done = true;  // unless one of the cells holds the cutoff
    }
    __syncthreads();
#pragma unroll
    for (std::uint32_t i = 0; i < select_own_cells; ++i) {
      if (before < state.left && state.left <= before + own.of[i]) {
        std::uint32_t const cell = digit_cells(digit) - 1 - (threadIdx.x * select_own_cells + i);
        shared_.state = narrowed(state, digit, cell, state.left - before, own.of[i]);
      }
      before += own.of[i];
    }
    __syncthreads();
    State const found = shared_.state;
    __syncthreads();
    return found;
  }

  /// How many elements equal the key.
  __device__ std::uint32_t count_equal(std::uint32_t key) {
    std::uint32_t found = 0;
    for (std::size_t at = 0; at < end_; at += select_tile) {
      take(at);
#pragma unroll
      for (int i = 0; i < select_items; ++i) {
        found += equals(i, key) ? 1U : 0U;
      }
    }
    return block_sum(found, shared_.number);
  }

  /// @brief The position behind the n-th element that equals the key, n > 0.
  __device__ std::size_t behind_equal(std::uint32_t key, std::uint32_t n) {
    for (std::size_t at = 0; at < end_; at += select_tile) {
      take(at);
      // Quads of a tile lie one behind another; they are counted side by side, in 16 bits each.
      static_assert(select_quads <= 2 && 4 * select_threads < 1 << 16);
      std::uint32_t own = 0;
#pragma unroll
      for (int i = 0; i < select_items; ++i) {
        own += equals(i, key) ? 1U << (16 * (i / 4)) : 0U;
      }
      std::uint32_t before = 0;
      std::uint32_t total = 0;
      typename SelectStorage<Rule>::PlaceScan(shared_.places).ExclusiveSum(own, before, total);
      std::uint32_t seen = 0;
#pragma unroll
      for (int quad = 0; quad < select_quads; ++quad) {
        std::uint32_t rank = seen + (before >> (16 * quad) & 0xFFFFU);
#pragma unroll
        for (int i = 4 * quad; i < 4 * quad + 4; ++i) {
          rank += equals(i, key) ? 1U : 0U;
          if (equals(i, key) && rank == n) {
            shared_.number = SelectTile<Rule>::place(quad) + static_cast<std::uint32_t>(i % 4);
          }
        }
        seen += total >> (16 * quad) & 0xFFFFU;
      }
      __syncthreads();
      if (n <= seen) {
        std::size_t const found = at + shared_.number + 1;
        __syncthreads();
        return found;
      }
      n -= seen;
    }
    return end_;
  }

  /// @brief Marks elements above the state's key and those that equal it before position `behind`.
  /// @param reads false: keys do not matter; all are marked, or with `state.nothing` none
  /// @return x: how many were marked, y: how many are NaN
  __device__ uint2 mark(State const& state, std::size_t behind, bool reads) {
    std::uint32_t marked = 0;
    std::uint32_t nans = 0;
    for (std::size_t at = 0; at < end_; at += select_tile) {
      take(at, reads);
      std::uint32_t const cut =
          behind > at ? static_cast<std::uint32_t>(min(behind - at, std::size_t{select_tile})) : 0U;
#pragma unroll
      for (int quad = 0; quad < select_quads; ++quad) {
        std::uint32_t wanted = state.nothing ? 0U : tile_.has_of(quad);  // a bit each
        if (reads) {
          std::uint32_t const position = SelectTile<Rule>::place(quad);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            std::uint32_t const key = tile_.key[4 * quad + i];
            bool const high = key > state.key ||
                              (key == state.key && position + static_cast<std::uint32_t>(i) < cut);
            wanted &= high ? ~0U : ~(1U << i);
            nans += Rule::has_nans && key == 0 && tile_.has(4 * quad + i) ? 1U : 0U;
          }
        }
        marked += static_cast<std::uint32_t>(__popc(wanted));
        write(at + SelectTile<Rule>::place(quad), tile_.has_of(quad), wanted);
      }
    }
    return {block_sum(marked, shared_.number),
            Rule::has_nans && reads ? block_sum(nans, shared_.number) : 0U};
  }

 private:
  [[nodiscard]] __device__ bool equals(int i, std::uint32_t key) const {
    return tile_.has(i) && tile_.key[i] == key;
  }

  /// The tile at a position becomes `tile_`. If it is the only one it stays in registers.
  __device__ void take(std::size_t at, bool reads = true) {
    if (loaded_) {
      return;
    }
    tile_.bound(at == 0 ? first_ : 0U,
                static_cast<std::uint32_t>(min(end_ - at, std::size_t{select_tile})));
    if (reads) {
      tile_.load(base_ + at);
      loaded_ = end_ <= select_tile;
    }
  }

  /// @param left weight wanted of the cell's elements, of `inside`
  [[nodiscard]] static __device__ State narrowed(State state, int digit, std::uint32_t cell,
                                                 Sum left, Sum inside) {
    state.key |= cell << digit_shift(digit);
    state.left = left;
    state.done = digit == select_digits - 1 || left == inside;  // then lower digits do not matter
    if (state.done) {
      state.key = max(state.key, Rule::lowest);
    }
    if (digit == select_digits - 1) {
      state.ties = Rule::elements(left, state.key);
      state.partial = state.ties < Rule::elements(inside, state.key);
    }
    return state;
  }

  /// Flags of four neighbours: one store if all are there and the address allows.
  __device__ void write(std::size_t position, std::uint32_t here, std::uint32_t wanted) {
    std::uint8_t* const to = selected_ + position;
    if (here == 0xFU && reinterpret_cast<std::uintptr_t>(to) % 4 == 0) {
      // Bit i to bit 8 i.
      *reinterpret_cast<std::uint32_t*>(to) = wanted * 0x00204081U & 0x01010101U;
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((here >> i & 1U) != 0) {
        to[i] = static_cast<std::uint8_t>(wanted >> i & 1U);
      }
    }
  }

  SelectStorage<Rule>& shared_;
  Element const* base_;     ///< of position 0, a multiple of 16 bytes
  std::uint8_t* selected_;  ///< of position 0
  std::uint32_t first_;     ///< position of the first element
  std::size_t end_;         ///< position behind the last
  SelectTile<Rule> tile_;
  bool loaded_ = false;
};

}  // namespace kvfreeze::gpu::detail
