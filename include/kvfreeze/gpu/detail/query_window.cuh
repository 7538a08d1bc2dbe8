#pragma once

/// @file
/// @brief Sums of |q.k| over the last queries of a lane, as integers: what a query added is taken
/// away again exactly.

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/dot_scores_kernels.cuh>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/detail/warp_fold.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Query tokens of a lane in a block's shared memory. Where it has no room for two of them,
/// they are read from the lane.
struct QueryStage {
  static constexpr int room = 4096;

  float values[room];

  /// Floats from token to token: half-warps that read two of them use different banks.
  static __device__ int line(Geometry const& g) { return g.lane_queries * g.head_dim + 16; }

  /// Tokens at once, an even number.
  static __device__ int tokens(Geometry const& g) { return room / line(g) / 2 * 2; }

  /// @brief Copies a token. By all threads of a block.
  template <int Threads>
  __device__ void load(Geometry const& g, int place, float const* token) {
    int const elements = g.lane_queries * g.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < elements; i += Threads) {
      values[place * line(g) + i] = token[i];
    }
  }
};

/// @brief |q.k| of four rows under up to `Heads` heads of a query token. By half a warp, each
/// thread of which has the elements of one of host::dot's chains; both halves call together.
/// @param query of the first of the heads
/// @return what the thread has of its row, number threadIdx.x % 16 / 4; the four threads of a row
/// have all of it
template <int Heads, class T>
__device__ std::uint32_t dot_parts(T const* const (&keys)[4], float const* query, int heads,
                                   int head_dim, float limit) {
  int const chain = static_cast<int>(threadIdx.x) % 16;
  float x[4 * Heads] = {};
  for (int at = chain; at < head_dim; at += 16) {
    float q[Heads];
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      q[h] = query[min(h, heads - 1) * head_dim + at];
    }
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      float const k = widened(keys[row][at]);
#pragma unroll
      for (int h = 0; h < Heads; ++h) {
        x[row * Heads + h] = __fmaf_rn(q[h], k, x[row * Heads + h]);
      }
    }
  }
  float const dot = reduce<16>(x, chain, [](float a, float b) { return __fadd_rn(a, b); });
  constexpr int copies = 4 / Heads;  // threads that have the same
  bool const counts = chain % copies == 0 && chain % 4 / copies < heads;
  return counts ? fixed_dot(dot, limit) : 0U;
}

/// @brief dot_parts() under all heads of a lane. @see host::dot_contributions
template <class T>
__device__ std::uint32_t dot_parts(Geometry const& g, T const* const (&keys)[4],
                                   float const* query) {
  std::uint32_t total = 0;
  for (int first = 0; first < g.lane_queries; first += g.group) {
    int const channel = first / g.group * g.head_dim;
    T const* const own[4] = {keys[0] + channel, keys[1] + channel, keys[2] + channel,
                             keys[3] + channel};
    for (int h = 0; h < g.group; h += 4) {
      int const heads = min(g.group - h, 4);
      float const* const q = query + (first + h) * g.head_dim;
      total += heads == 1   ? dot_parts<1>(own, q, heads, g.head_dim, g.dot_limit)
               : heads == 2 ? dot_parts<2>(own, q, heads, g.head_dim, g.dot_limit)
                            : dot_parts<4>(own, q, heads, g.head_dim, g.dot_limit);
    }
  }
  return total;
}

/// Adds up what the four threads of a row have.
__device__ inline std::uint32_t sum_of_row(std::uint32_t part) {
  part += __shfl_xor_sync(whole_warp, part, 1);
  return part + __shfl_xor_sync(whole_warp, part, 2);
}

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

  /// Fours of one.
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

/// Of a lane's slots a block's share, if those of a grid's line divide them: all of its warps'
/// turns.
__device__ inline SlotRange slots_of_block(int slots) {
  constexpr int turns = 16;
  int const blocks = turns * static_cast<int>(gridDim.x);
  int const each = (slots + blocks - 1) / blocks * turns;
  int const begin = min(static_cast<int>(blockIdx.x) * each, slots);
  return {begin, min(begin + each, slots)};
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
  constexpr int warps = Threads / 32;
  int const warp = static_cast<int>(threadIdx.x) / 32;
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
    for (int i = slots.begin + warp * Rows::slots; i < slots.end; i += warps * Rows::slots) {
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
    }
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

/// @brief The largest mean of each granule goes to its record. By the warps that noted their sums.
/// @see host::note_means
template <class C, int Threads>
__device__ void note_means(LaneRef<C> const& ref, SlotRange slots, int end) {
  using Rows = RowsOfFour<C>;
  __syncwarp();
  int const thread = static_cast<int>(threadIdx.x) % 32;
  int const first = slots.begin + static_cast<int>(threadIdx.x) / 32 * Rows::slots;
  for (int i = first; i < slots.end; i += Threads / 32 * Rows::slots) {
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
      ref.record(slot).value = from_float<BFloat16>(mean).bits;
    }
  }
}

/// @brief Takes the step's queries into the sums of the exact rows and those that leave the window
/// out of them; the largest mean of a granule goes to its record. Lanes along y.
/// @see host::slide_window
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void slide_window_kernel(Geometry g, CacheMemory memory, LayerStep<C> s) {
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
  int const first = slots.begin + static_cast<int>(threadIdx.x) / 32 * Rows::slots;
  for (int i = first; i < slots.end; i += Threads / 32 * Rows::slots) {
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
  }
  note_means<C, Threads>(ref, slots, newest + 1);
}

}  // namespace kvfreeze::gpu::detail
