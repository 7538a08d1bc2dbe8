#pragma once

/// @file
/// @brief Sums of |q.k| over the last queries of a lane, as integers: what a query added is taken
/// away again exactly.

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/row_dots.cuh>
#include <kvfreeze/gpu/detail/row_evidence.cuh>
#include <kvfreeze/gpu/detail/step.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Four rows that lie side by side, of which a thread has one: number threadIdx.x % 16 / 4.
template <class C>
struct RowsOfFour {
  using T = typename C::Value;

  T const* keys[4];
  std::uint32_t slot = 0;
  int row = 0;  ///< of the slot
  int position = 0;
  bool is_there = false;  ///< else it is one of the others again

  /// Slots of a warp's turn, whose rows are whole fours.
  static constexpr int slots = C::page == 1 ? 4 : 1;

  /// Fours of a turn.
  static constexpr int count = C::page <= 4 ? 1 : C::page / 4;

  /// @param begin, end slots: the turn's first, and that behind the last of all
  __device__ RowsOfFour(LaneRef<C> const& ref, int begin, int end, int four) {
    int const own = static_cast<int>(threadIdx.x) % 16 / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int const wanted = C::page == 1 ? begin + i : begin;
      int const there = min(wanted, end - 1);
      auto const s = static_cast<std::uint32_t>(there);
      int r = 0;
      bool exists = wanted == there;
      if constexpr (C::page > 1) {
        r = 4 * four + i;
        exists = r < ref.rows_of(ref.record(s).granule);
        r = exists ? r : 0;
      }
      keys[i] = ref.k(s) + static_cast<std::ptrdiff_t>(r) * ref.geometry->row_elements;
      if (i == own) {
        slot = s;
        row = r;
        is_there = exists;
      }
    }
    position = static_cast<int>(ref.record(slot).granule) * C::page + row;
  }

  /// Is it the thread that notes its row's sum?
  [[nodiscard]] __device__ bool leads() const {
    return is_there && threadIdx.x % 32 < 16 && threadIdx.x % 4 == 0;
  }
};

/// @brief Position of the oldest query of the window that ends before `end`: a truncation leaves a
/// shorter one. @see host::forget_queries
template <class C>
__device__ int window_begin(LaneRef<C> const& ref, int end) {
  return max(ref.lane->first_query, end - ref.geometry->window_queries);
}

/// Slots from one up to another.
struct SlotRange {
  int begin;
  int end;
};

/// @brief Of a lane's slots a block's share, if the blocks along x divide them: a multiple of what
/// four warps take in a turn.
__device__ inline SlotRange slots_of_block(int slots) {
  constexpr int unit = 16;
  int const blocks = unit * static_cast<int>(gridDim.x);
  int const each = (slots + blocks - 1) / blocks * unit;
  int const begin = min(static_cast<int>(blockIdx.x) * each, slots);
  return {begin, min(begin + each, slots)};
}

/// @brief Calls f(slot) for the first slot of each of the warp's turns: always the same warp's. By
/// a block.
template <class C, int Threads, class F>
__device__ void for_each_turn(SlotRange slots, F const& f) {
  constexpr int each = RowsOfFour<C>::slots;
  for (int i = slots.begin + static_cast<int>(threadIdx.x) / 32 * each; i < slots.end;
       i += Threads / 32 * each) {
    f(i);
  }
}

/// @brief Sums of rows as if they had never been away: over the window of queries before that of
/// position `end`. By a block, whose threads have written the slots' records and keys.
/// @param slots whose rows they are
/// @see host::rebuild_sums
/// @complexity O(window) dot products for each row
template <class C, int Threads>
__device__ void rebuild_sums(LaneRef<C> const& ref, SlotRange slots, int end, QueryStage& stage) {
  using Rows = RowsOfFour<C>;
  Geometry const& g = *ref.geometry;
  if (slots.begin >= slots.end) {
    return;
  }
  int const half = static_cast<int>(threadIdx.x) % 32 / 16;
  int const begin = window_begin(ref, end);
  int const staged = QueryStage::tokens(g);
  int const tokens = staged > 0 ? staged : max(end - begin, 1);
  int first = begin;
  do {
    int const last = min(first + tokens, end);
    __syncthreads();  // those of before are read
    for (int token = first; staged > 0 && token < last; ++token) {
      stage.template load<Threads>(g, token - first, ref.query_of(token));
    }
    __syncthreads();
    for_each_turn<C, Threads>(slots, [&](int i) {
      for (int four = 0; four < Rows::count; ++four) {
        Rows const rows(ref, i, slots.end, four);
        std::uint32_t sum = 0;
        for (int token = first; token < last; token += 2) {
          int const own = min(token + half, last - 1);
          float const* const query =
              staged > 0 ? stage.values + (own - first) * QueryStage::line(g) : ref.query_of(own);
          std::uint32_t const dots = dot_parts(g, rows.keys, query);
          sum += token + half == own && own >= rows.position ? dots : 0U;
        }
        sum = sum_of_row(sum + __shfl_xor_sync(whole_warp, sum, 16));
        if (rows.leads()) {
          std::uint32_t& kept = ref.sum(rows.slot, rows.row);
          kept = (first == begin ? 0U : kept) + sum;
        }
      }
    });
    first = last;
  } while (first < end);
}

/// Mean |q.k| of a row from its sum, as host::mean_dot.
__device__ inline float mean_dot(std::uint32_t sum, int queries, int heads) {
  float const count = __fmul_rn(static_cast<float>(queries), static_cast<float>(heads));
  return queries <= 0 ? 0.0F : __fdiv_rn(static_cast<float>(sum), __fmul_rn(count, 4096.0F));
}

/// @brief Mean |q.k| of a row over the window of queries before that of position `end`.
template <class C>
__device__ float window_mean(LaneRef<C> const& ref, std::uint32_t sum, int position, int end) {
  return mean_dot(sum, end - max(position, window_begin(ref, end)), ref.geometry->lane_queries);
}

/// @brief The largest mean of each granule goes to its record, and into what the scorer remembers.
/// By the warps that noted their sums. @see host::note_means
template <class C, int Threads>
__device__ void note_means(LaneRef<C> const& ref, typename C::Scorer const& scorer, SlotRange slots,
                           int end, std::uint32_t step) {
  using Rows = RowsOfFour<C>;
  __syncwarp();
  int const thread = static_cast<int>(threadIdx.x) % 32;
  for_each_turn<C, Threads>(slots, [&](int i) {
    auto const slot = static_cast<std::uint32_t>(C::page == 1 ? i + thread : i);
    int const row = C::page == 1 ? 0 : thread;
    bool is_there = C::page > 1 || (thread < Rows::slots && i + thread < slots.end);
    float mean = 0.0F;
    if (is_there) {
      int const granule = static_cast<int>(ref.record(slot).granule);
      is_there = C::page == 1 || row < ref.rows_of(static_cast<std::uint32_t>(granule));
      mean = is_there ? window_mean(ref, ref.sum(slot, row), granule * C::page + row, end) : 0.0F;
    }
    if constexpr (C::page > 1) {  // none is below 0, so that they order as integers
      mean = __uint_as_float(__reduce_max_sync(whole_warp, __float_as_uint(mean)));
      is_there = thread == 0;
    }
    if (is_there) {
      host::SlotRecord& record = ref.record(slot);
      record.value = from_float<BFloat16>(mean).bits;
      RowEvidence row = evidence_of(ref, record.granule, step);
      row.mean_abs_dot = mean;
      update_score(ref, scorer, record.granule, row);
    }
  });
}

/// @brief Takes the step's queries into the sums of the exact rows and those that leave the window
/// out of them; the largest mean of a granule goes to its record. Lanes along y.
/// @see host::slide_window
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void slide_window_kernel(Geometry g, CacheMemory memory, LayerStep<C> s,
                                      typename C::Scorer scorer) {
  using Rows = RowsOfFour<C>;
  __shared__ QueryStage stage;
  WorkLane const where(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  SlotRange const slots = slots_of_block(ref.lane->slots);
  if (slots.begin >= slots.end) {
    return;
  }
  int const newest = ref.lane->rows - 1;
  int const leaves = newest - g.window_queries;
  float const* queries[2] = {ref.query_of(newest),
                             ref.query_of(leaves >= ref.lane->first_query ? leaves : newest)};
  if (QueryStage::tokens(g) > 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      stage.load<Threads>(g, i, queries[i]);
      queries[i] = stage.values + i * QueryStage::line(g);
    }
  }
  __syncthreads();
  bool const upper = threadIdx.x % 32 >= 16;
  float const* const query = upper ? queries[1] : queries[0];
  for_each_turn<C, Threads>(slots, [&](int i) {
    for (int four = 0; four < Rows::count; ++four) {
      Rows const rows(ref, i, slots.end, four);
      bool const had_seen = leaves >= max(rows.position, ref.lane->first_query);
      std::uint32_t const dots = dot_parts(g, rows.keys, query);
      std::uint32_t const sum = sum_of_row(!upper || had_seen ? dots : 0U);
      std::uint32_t const out = __shfl_xor_sync(whole_warp, sum, 16);
      if (rows.leads()) {
        ref.sum(rows.slot, rows.row) += sum - out;
      }
    }
  });
  note_means<C, Threads>(ref, scorer, slots, newest + 1, where.step);
}

}  // namespace kvfreeze::gpu::detail
