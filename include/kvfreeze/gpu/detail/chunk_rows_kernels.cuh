#pragma once

/// @file
/// @brief A chunk of one sequence's tokens comes into a layer's lanes: rows, written through to the
/// tier.

#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/begin_recall.cuh>
#include <kvfreeze/gpu/detail/give_way.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A chunk of one layer: [tokens][kv_heads][head_dim], [tokens][query_heads][head_dim].
template <class Input>
struct ChunkRows {
  NewRows<Input> rows;
  int tokens = 0;

  /// A lane's part of K or V of a token.
  static __device__ Input const* row(Input const* all, Geometry const& g, int lane, int token) {
    return all + static_cast<std::ptrdiff_t>(token) * g.kv_heads * g.head_dim +
           static_cast<std::ptrdiff_t>(lane) * g.row_elements;
  }

  /// A lane's queries of a token.
  [[nodiscard]] __device__ Input const* queries(Geometry const& g, int lane, int token) const {
    return rows.q + (static_cast<std::ptrdiff_t>(token) * g.query_heads + lane * g.lane_queries) *
                        g.head_dim;
  }
};

/// Tokens of a chunk before the first that may freeze: sinks, and what shares a verdict with them
/// or with rows that were there before.
template <class C>
__device__ int first_exact(Geometry const& g, LaneState const& lane) {
  int const first = max(g.sinks, lane.rows);
  return (first + C::span - 1) / C::span * C::span - lane.rows;
}

/// Where a chunk's row goes.
template <class C>
struct ChunkRow {
  std::uint32_t position;
  std::uint32_t granule;
  std::uint32_t row;  ///< within the granule
  std::uint32_t slot;
  bool exact;  ///< it has a slot; else the tier alone has it

  /// @param token within the chunk that the lane takes
  __device__ ChunkRow(Geometry const& g, LaneState const& lane, int token)
      : position(static_cast<std::uint32_t>(lane.rows + token)),
        granule(position / C::page),
        row(position % C::page) {
    int const behind = token - first_exact<C>(g, lane);
    exact = behind < 0 || behind >= lane.chunk_frozen;
    int const next = static_cast<int>(granule) - granules_of<C>(lane.rows);  // -1: is being filled
    slot = static_cast<std::uint32_t>(lane.slots + next - (behind < 0 ? 0 : lane.chunk_frozen));
  }
};

/// Rows of a chunk that must be exact: sinks, the window, those that no digest will hold.
template <class C>
__device__ int protected_rows(Geometry const& g, LaneState const& lane, int tokens) {
  int const rows = lane.rows + tokens;
  int const tail = C::has_digest ? rows % C::Digest::group_rows : 1;
  int const oldest = max(rows - max(g.window, tail), 0);
  int const newest = rows - oldest / C::span * C::span;
  int const sinks = min(first_exact<C>(g, lane), tokens);
  return min(sinks + min(newest, tokens), tokens);
}

/// @brief Under a byte cap, codes and rows that may freeze make way for what the chunk must hold
/// exact. One block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void make_way_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, int tokens) {
  __shared__ typename BlockPartition<Threads>::Storage storage;
  WorkLane const work(g, s, static_cast<int>(blockIdx.x));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState const& lane = *ref.lane;
  std::uint32_t const more = row_pages(g, lane.slots + protected_rows<C>(g, lane, tokens)) -
                             row_pages(g, lane.slots) + digest_pages<C>(g, lane.rows + tokens) -
                             digest_pages<C>(g, lane.rows);
  __syncthreads();
  give_way<C, Threads>(ref, lane.budget - min(lane.budget, more), storage);
  release_pages(ref, memory.pool);
}

/// @brief Room for the chunk's rows and digest groups, and what its queries look at. One block a
/// lane. Where there is no room the lane takes nothing, and the status says so.
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void begin_chunk_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, ChunkRows<Input> chunk, std::uint32_t* status) {
  WorkLane const work(g, s, static_cast<int>(blockIdx.x));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState& lane = *ref.lane;
  if (threadIdx.x == 0) {
    begin_lane_step(lane);
    int const rows = lane.rows + chunk.tokens;
    int exact = granules_of<C>(rows) - ref.granules();
    if (C::ranks && lane.budget != no_limit) {
      std::uint32_t const beside = digest_pages<C>(g, rows) + code_pages<C>(g, lane.codes);
      auto const slots =
          static_cast<int>((lane.budget - min(lane.budget, beside)) * page_rows) - 1 - lane.slots;
      int const least = protected_rows<C>(g, lane, chunk.tokens);
      exact = max(min(chunk.tokens, slots), least);
      if constexpr (C::span > 1) {  // whole granules freeze
        int const frozen = (chunk.tokens - exact + C::span - 1) / C::span * C::span;
        exact = max(chunk.tokens - frozen, least);
      }
    }
    bool fits = rows <= g.max_tokens;
    if (!fits) {
      atomicOr(status, Status::too_long);
    } else if (!ref.has_room_for(static_cast<std::uint32_t>(lane.rows / C::page),
                                 static_cast<std::uint32_t>(granules_of<C>(rows)))) {
      fits = false;
      atomicOr(status, Status::not_begun);
    } else {
      fits = grow(ref, memory.pool, rows_segment,
                  C::in_place ? granules_of<C>(rows) : lane.slots + exact);
      if constexpr (C::has_digest) {
        fits = fits && grow(ref, memory.pool, digests_segment, rows / C::Digest::group_rows);
      }
      if (!fits) {
        atomicOr(status, Status::no_pages);
      }
    }
    lane.chunk = fits ? chunk.tokens : 0;
    lane.chunk_frozen = fits ? granules_of<C>(rows) - ref.granules() - exact : 0;
  }
  if constexpr (C::weighs) {
    std::ptrdiff_t const stride = static_cast<std::ptrdiff_t>(g.query_heads) * g.head_dim;
    Input const* const first = chunk.queries(g, work.head, 0);
    for (int d = static_cast<int>(threadIdx.x); d < g.row_elements; d += Threads) {
      Input const* const channel = first + d + d / g.head_dim * (g.group - 1) * g.head_dim;
      ref.importance[d] =
          add_squares(ref.importance[d], channel, chunk.tokens, stride, g.group, g.head_dim);
    }
  }
  if constexpr (C::rates) {
    for (int token = 0; token < chunk.tokens; ++token) {
      auto const before = lane.mean_queries + static_cast<std::uint32_t>(token);
      note_query_moments<C, Input, Threads>(ref, chunk.queries(g, work.head, token),
                                            min(before + 1U, most_mean_queries));
    }
  }
}

/// @brief The chunk's rows, into their slots and into the tier. Grid (tokens, lanes) in blocks of
/// `Threads / 32` rows, a warp a row.
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void chunk_rows_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, ChunkRows<Input> chunk, std::uint32_t* status) {
  using Value = typename C::Value;
  WorkLane const work(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  int const token = static_cast<int>(blockIdx.x * (Threads / 32) + threadIdx.x / 32);
  if (token >= ref.lane->chunk) {
    return;
  }
  ChunkRow<C> const row(g, *ref.lane, token);
  Input const* const k = ChunkRows<Input>::row(chunk.rows.k, g, work.head, token);
  Input const* const v = ChunkRows<Input>::row(chunk.rows.v, g, work.head, token);
  std::ptrdiff_t const within = static_cast<std::ptrdiff_t>(row.row) * g.row_elements;
  int const lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t const place = C::in_place ? row.granule : row.slot;
  Value* const row_k = row.exact ? ref.k_at(place) + within : nullptr;
  Value* const row_v = row.exact ? ref.v_at(place) + within : nullptr;
  Input const* const q = chunk.queries(g, work.head, token);
  bool finite = true;
  for (int i = lane; i < g.lane_queries * g.head_dim; i += 32) {
    finite = finite && kvfreeze::detail::is_finite(to_float(q[i]));
  }
  for (int i = lane; i < g.row_elements; i += 32) {
    float const a = to_float(k[i]);
    float const b = to_float(v[i]);
    finite = finite && kvfreeze::detail::is_finite(a) && kvfreeze::detail::is_finite(b);
    Value const key = from_float<Value>(a);
    Value const value = from_float<Value>(b);
    if constexpr (C::stores) {
      auto* const stored = reinterpret_cast<Value*>(ref.stored(row.granule)) + within;
      stored[i] = key;
      stored[C::page * g.row_elements + i] = value;
    }
    if (row.exact) {
      row_k[i] = key;
      row_v[i] = value;
    }
  }
  if (!finite) {
    atomicOr(status, Status::not_finite);
  }
  if (lane == 0 && (row.row == 0 || token == 0)) {  // its first row of the chunk: the granule's
    int const rows = min(C::page - static_cast<int>(row.row), ref.lane->chunk - token);
    std::uint8_t state = ref.newborn(row.position, rows);
    if (!row.exact) {
      state = host::GranuleState::with(state, Fidelity::frozen);
      if ((state & host::GranuleState::pinned) != 0) {
        state |= host::GranuleState::forced;
        atomicAdd(&ref.lane->forced, 1U);
      }
    } else if (row.row == 0) {
      ref.record_at(place) = {row.granule,
                              newborn_stamp(ref, row.granule, ref.granules(), work.step), 0};
      if constexpr (C::in_place) {
        ref.list[row.slot] = row.granule;
      }
    }
    ref.states[row.granule] = state;
    if (row.row == 0) {
      ref.plans[row.granule] = 0;
      begin_granule(ref, row.granule, ref.granules());
    }
  }
}

}  // namespace kvfreeze::gpu::detail
