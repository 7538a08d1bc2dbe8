#pragma once

/// @file
/// @brief How a lane's rows are spread over blocks: tiles of 1,024 rows of one run, dealt to the
/// lane's blocks in turn; a thread has four neighbours of a tile.

#include <kvfreeze/gpu/detail/row_loads.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/gpu/logit_run.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int rank_threads = 256;
inline constexpr int rank_warps = rank_threads / 32;
inline constexpr int rank_tile = 4 * rank_threads;  ///< rows
inline constexpr int rank_heads = 4;                ///< heads that are worked on together
inline constexpr int most_rank_blocks = 64;         ///< of a lane: their results fit one warp twice

/// @brief Blocks of a lane: one for each tile of the longest one, but no more than keep the device
/// busy with all lanes: three a multiprocessor, which is what registers allow, of some 130.
inline int rank_blocks(int lanes, int max_rows) {
  constexpr int enough = 384;
  int const share = enough / lanes > 1 ? enough / lanes : 1;
  int const most = share < most_rank_blocks ? share : most_rank_blocks;
  // Each run may end in a tile that is not full.
  int const tiles = max_rows / rank_tile + RankedLane::most_runs;
  return tiles < most ? tiles : most;
}

__device__ inline int tiles_of(int rows) { return (rows + rank_tile - 1) / rank_tile; }

/// @brief A block's place among those that work on its lane.
struct LanePlace {
  int lane = 0;
  int block = 0;   ///< of the lane's
  int blocks = 1;  ///< of the lane
  int room = 1;    ///< blocks that results have room for
};

/// @brief The runs of the block's lane, in shared memory: read once.
struct LaneTiles {
  alignas(LogitRun) unsigned char storage[RankedLane::most_runs * sizeof(LogitRun)];
  int runs;

  [[nodiscard]] __device__ LogitRun const& run(int r) const {
    return reinterpret_cast<LogitRun const*>(storage)[r];
  }

  /// By all threads of the block.
  template <class Lanes>
  __device__ void load(Lanes const& lanes, int lane) {
    auto const thread = static_cast<int>(threadIdx.x);
    int const count = lanes.runs(lane);
    if (thread < count) {
      reinterpret_cast<LogitRun*>(storage)[thread] = lanes.run(lane, thread);
    }
    if (thread == 0) {
      runs = count;
    }
    __syncthreads();
  }

  /// Tiles of the lane.
  [[nodiscard]] __device__ int count() const {
    int tiles = 0;
#pragma unroll 1
    for (int r = 0; r < runs; ++r) {
      tiles += tiles_of(run(r).rows);
    }
    return tiles;
  }

  /// @brief Calls f(r, run, first) for each tile of the block: rows of run r from `first` on, which
  /// is the thread's own first of four and may lie behind the run's end.
  template <class F>
  __device__ void for_each(LanePlace const& place, F const& f) const {
    int tile = place.block;
#pragma unroll 1
    for (int r = 0; r < runs; ++r) {
      int const tiles = tiles_of(run(r).rows);
      if (tile < tiles) {
        LogitRun const own = run(r);
#pragma unroll 1
        for (; tile < tiles; tile += place.blocks) {
          f(r, own, tile * rank_tile + 4 * static_cast<int>(threadIdx.x));
        }
      }
      tile -= tiles;
    }
  }
};

/// Has the warp any of the rows that its threads have four of, this one from `row` on? The last
/// tile of a run may be nearly empty.
__device__ inline bool warp_has_rows(LogitRun const& run, int row) {
  return row - 4 * static_cast<int>(threadIdx.x % 32) < run.rows;
}

/// The block's place, where the grid is [lanes][blocks of each]. A lane has fewer if it is short.
__device__ inline LanePlace place_in_grid(LaneTiles const& tiles) {
  LanePlace place;
  place.lane = static_cast<int>(blockIdx.y);
  place.block = static_cast<int>(blockIdx.x);
  place.room = static_cast<int>(gridDim.x);
  place.blocks = max(min(tiles.count(), place.room), 1);
  return place;
}

/// Which of a word's bytes are not 0, a bit each.
__device__ inline unsigned nonzero_bytes(std::uint32_t word) {
  constexpr std::uint32_t low_bits = 0x7F7F7F7FU;
  std::uint32_t const high = (((word & low_bits) + low_bits) | word) & ~low_bits;
  return (high >> 7 | high >> 14 | high >> 21 | high >> 28) & 0xFU;
}

/// @brief A thread's four rows of a run: neighbours, but of runs row by row each 32nd of its
/// warp's, so that threads side by side read side by side.
/// @tparam Counting whether the masses are counted or protected
template <bool Counting>
struct RowQuad {
  static constexpr std::uint32_t each_byte = 0x01010101U;

  int first;         ///< row
  int rows;          ///< how many of the four there are
  int granule;       ///< the first row's
  int granules;      ///< of the four rows: as many as there are rows, or one, or none
  unsigned in;       ///< rows that take part, a bit each
  unsigned counted;  ///< granules that a histogram counts, a bit each; if Counting
  bool apart;        ///< the rows are not neighbours

  /// @param loads are logits to be loaded? Otherwise the rows are neighbours in any run
  __device__ RowQuad(LogitRun const& run, int row, int page_shift, bool loads = true)
      : first(row),
        rows(min(max(run.rows - row, 0), 4)),
        granule(row >> page_shift),
        granules(page_shift == 0 ? rows : min(rows, 1)),
        in((1U << rows) - 1U),
        counted(0),
        apart(loads && run.row_stride != 1) {
    if (apart) {
      spread(run);
      return;
    }
    bool const asks = run.states != nullptr &&
                      (run.frozen_only || run.absent != 0 || (Counting && run.hidden != 0));
    std::uint32_t states = 0;  // of the granules, a byte each
    if (run.positions == nullptr) {
      states = asks ? load_four(run.states + granule, granules) : 0U;
      if constexpr (Counting) {
        int const low = min(max(run.low - granule, 0), 4);
        int const high = min(max(run.high - granule, 0), 4);
        counted = ((1U << high) - 1U) & ~((1U << low) - 1U);
      }
    } else if (asks || Counting) {
      std::uint32_t positions[4];
      load_four(run.positions + granule, granules, 0U, positions);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j < granules) {
          auto const position = static_cast<int>(positions[j]);
          std::uint32_t const state = asks ? global(run.states)[position] : 0U;
          states |= state << (8 * j);
          counted |= position >= run.low && position < run.high ? 1U << j : 0U;
        }
      }
    }
    if constexpr (Counting) {
      counted &= ~nonzero_bytes(states & (run.hidden * each_byte));
    }
    std::uint32_t const spread = page_shift == 0 ? states : byte_of(states, 0) * each_byte;
    in &= ~nonzero_bytes(spread & (run.absent * each_byte));
    if (run.frozen_only) {
      in &= ~nonzero_bytes((spread & (LogitRun::state_bits * each_byte)) ^
                           (LogitRun::taking_part * each_byte));
    }
  }

  /// @brief Logits of up to four heads from `head` on; minus infinity for rows that do not take
  /// part, whatever theirs are. So nobody branches over them.
  __device__ void load(LogitRun const& run, int head, int heads, float (&x)[rank_heads][4]) const {
    if (apart) {
      load_by_row(run, head, heads, x);
      return;
    }
    float const* p = global(run.logits) + head * run.stride + first;
    bool const aligned = is_aligned<16>(p) && run.stride % 4 == 0;
    if (rows == 4 && aligned) {
#pragma unroll
      for (int h = 0; h < rank_heads; ++h) {
        if (h < heads) {
          float4 const four = *reinterpret_cast<float4 const*>(p);
          x[h][0] = takes_part(0) ? four.x : minus_infinity();
          x[h][1] = takes_part(1) ? four.y : minus_infinity();
          x[h][2] = takes_part(2) ? four.z : minus_infinity();
          x[h][3] = takes_part(3) ? four.w : minus_infinity();
          p += run.stride;
        }
      }
      return;
    }
#pragma unroll
    for (int h = 0; h < rank_heads; ++h) {
      if (h < heads) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          x[h][j] = takes_part(j) ? p[j] : minus_infinity();
        }
        p += run.stride;
      }
    }
  }

  [[nodiscard]] __device__ bool takes_part(int j) const { return ((in >> j) & 1U) != 0; }

 private:
  __device__ void spread(LogitRun const& run) {
    first -= 3 * static_cast<int>(threadIdx.x % 32);
    granule = first;
    in = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      in |= first + 32 * j < run.rows ? 1U << j : 0U;
    }
    counted = in;
  }

  __device__ void load_by_row(LogitRun const& run, int head, int heads,
                              float (&x)[rank_heads][4]) const {
    float const* p = global(run.logits) + first * run.row_stride + head;
#pragma unroll
    for (int j = 0; j < 4; ++j, p += 32 * run.row_stride) {
      float4 row{minus_infinity(), minus_infinity(), minus_infinity(), minus_infinity()};
      if (takes_part(j)) {
        if (heads > 2) {
          row = *reinterpret_cast<float4 const*>(p);
        } else {
          auto const two = *reinterpret_cast<float2 const*>(p);
          row.x = two.x;
          row.y = two.y;
        }
      }
      x[0][j] = row.x;
      x[1][j] = row.y;
      x[2][j] = row.z;
      x[3][j] = row.w;
    }
  }
};

}  // namespace kvfreeze::gpu::detail
