#pragma once

/// @file
/// @brief A chunk of one sequence's tokens comes into a layer's lanes: rows written through to the
/// tier, digest groups that they complete, then the last queries' votes.

#include <kvfreeze/gpu/detail/append_kernels.cuh>
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
  static __device__ Input const* row(Input const* all, Geometry const& g, int head, int token) {
    return all + (static_cast<std::ptrdiff_t>(token) * g.kv_heads + head) * g.head_dim;
  }

  /// A lane's queries of a token.
  [[nodiscard]] __device__ Input const* queries(Geometry const& g, int head, int token) const {
    return rows.q + (static_cast<std::ptrdiff_t>(token) * g.query_heads + head * g.lane_queries) *
                        g.head_dim;
  }
};

/// Where a chunk's row goes.
struct ChunkRow {
  std::uint32_t position;
  std::uint32_t slot;
  bool exact;  ///< it has a slot; else the tier alone has it

  /// @param token within the chunk that the lane takes
  __device__ ChunkRow(Geometry const& g, LaneState const& lane, int token)
      : position(static_cast<std::uint32_t>(lane.rows + token)) {
    int const sinks = max(g.sinks - lane.rows, 0);
    int const behind = token - sinks;
    exact = behind < 0 || behind >= lane.chunk_frozen;
    slot = static_cast<std::uint32_t>(lane.slots + token - (behind < 0 ? 0 : lane.chunk_frozen));
  }
};

/// Rows of a chunk that must be exact: sinks, the window, those that no digest will hold.
template <class C>
__device__ int protected_rows(Geometry const& g, LaneState const& lane, int tokens) {
  int const rows = lane.rows + tokens;
  int const tail = C::has_digest ? rows % C::Digest::group_rows : 1;
  int const newest = min(max(g.window, tail), rows);
  int const sinks = min(max(g.sinks - lane.rows, 0), tokens);
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
    int exact = chunk.tokens;
    if (lane.budget != no_limit) {
      std::uint32_t const beside = digest_pages<C>(g, rows) + code_pages<C>(g, lane.codes);
      auto const slots =
          static_cast<int>((lane.budget - min(lane.budget, beside)) * page_rows) - 1 - lane.slots;
      exact = max(min(chunk.tokens, slots), protected_rows<C>(g, lane, chunk.tokens));
    }
    bool fits = rows <= g.max_tokens;
    if (!fits) {
      atomicOr(status, Status::too_long);
    } else {
      fits = grow(ref, memory.pool, rows_segment, lane.slots + exact);
      if constexpr (C::has_digest) {
        fits = fits && grow(ref, memory.pool, digests_segment, rows / C::Digest::group_rows);
      }
      if (!fits) {
        atomicOr(status, Status::no_pages);
      }
    }
    lane.chunk = fits ? chunk.tokens : 0;
    lane.chunk_frozen = fits ? chunk.tokens - exact : 0;
  }
  if constexpr (C::weighs) {
    std::ptrdiff_t const stride = static_cast<std::ptrdiff_t>(g.query_heads) * g.head_dim;
    Input const* const first = chunk.queries(g, work.head, 0);
    for (int d = static_cast<int>(threadIdx.x); d < g.head_dim; d += Threads) {
      ref.importance[d] = add_squares(ref.importance[d], first + d, chunk.tokens, stride,
                                      g.lane_queries, g.head_dim);
    }
  }
}

/// Is a part of the chunk's queries, keys or values finite? By one warp, a thread's part each.
template <class Input>
__device__ bool is_finite_part(Input const* values, int count, int lane) {
  bool finite = true;
  for (int i = lane; i < count; i += 32) {
    finite = finite && kvfreeze::detail::is_finite(to_float(values[i]));
  }
  return finite;
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
  ChunkRow const row(g, *ref.lane, token);
  Input const* const k = ChunkRows<Input>::row(chunk.rows.k, g, work.head, token);
  Input const* const v = ChunkRows<Input>::row(chunk.rows.v, g, work.head, token);
  auto* const stored = reinterpret_cast<Value*>(ref.stored(row.position));
  int const lane = static_cast<int>(threadIdx.x) % 32;
  bool const finite =
      is_finite_part(chunk.queries(g, work.head, token), g.lane_queries * g.head_dim, lane) &&
      is_finite_part(k, g.row_elements, lane) && is_finite_part(v, g.row_elements, lane);
  if (!finite) {
    atomicOr(status, Status::not_finite);
  }
  for (int i = lane; i < g.row_elements; i += 32) {
    stored[i] = from_float<Value>(to_float(k[i]));
    stored[g.row_elements + i] = from_float<Value>(to_float(v[i]));
  }
  if (row.exact) {
    Value* const row_k = ref.k(row.slot);
    Value* const row_v = ref.v(row.slot);
    for (int i = lane; i < g.row_elements; i += 32) {
      row_k[i] = from_float<Value>(to_float(k[i]));
      row_v[i] = from_float<Value>(to_float(v[i]));
    }
  }
  if (lane == 0) {
    std::uint8_t state = ref.newborn(row.position);
    if (row.exact) {
      ref.record(row.slot) = {row.position, static_cast<std::uint16_t>(work.step), 0};
    } else {
      state = host::GranuleState::with(state, Fidelity::frozen);
      if ((state & host::GranuleState::pinned) != 0) {
        state |= host::GranuleState::forced;
        atomicAdd(&ref.lane->forced, 1U);
      }
    }
    ref.states[row.position] = state;
    ref.plans[row.position] = 0;
  }
}

/// Keys or values of a group that a chunk completes: those that were there before in their slots,
/// the others as the caller gave them.
template <class C, class Input>
struct GroupRows {
  using Value = typename C::Value;

  LaneRef<C> const& ref;
  Input const* chunk;     ///< the lane's part of the chunk's first row
  std::ptrdiff_t stride;  ///< from row to row of the chunk
  int first;              ///< position of the group's first row
  bool values;            ///< V, not K

  __device__ float operator()(int row, int d) const {
    int const position = first + row;
    LaneState const& lane = *ref.lane;
    if (position < lane.rows) {
      std::uint32_t const slot = lane.tail[position - ref.tail_begin()];
      return widened((values ? ref.v(slot) : ref.k(slot))[d]);
    }
    return widened(from_float<Value>(to_float(chunk[(position - lane.rows) * stride + d])));
  }

  [[nodiscard]] __device__ float4 quad(int row, int quad) const {
    GroupRows const& self = *this;
    int const d = 4 * quad;
    return {self(row, d), self(row, d + 1), self(row, d + 2), self(row, d + 3)};
  }
};

/// @brief Digest groups that the chunk completes, a block each. Grid (groups, lanes).
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void chunk_groups_kernel(Geometry g, CacheMemory memory, LayerStep<C> s,
                                      ChunkRows<Input> chunk) {
  __shared__ typename Encoder<typename C::Digest>::Storage encoder;
  constexpr int group_rows = C::Digest::group_rows;
  WorkLane const work(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState const& lane = *ref.lane;
  int const group = lane.groups + static_cast<int>(blockIdx.x);
  if (lane.chunk == 0 || (group + 1) * group_rows > lane.rows + lane.chunk) {
    return;
  }
  std::ptrdiff_t const stride = static_cast<std::ptrdiff_t>(g.kv_heads) * g.head_dim;
  int const first = group * group_rows;
  GroupRows<C, Input> const keys{ref, ChunkRows<Input>::row(chunk.rows.k, g, work.head, 0), stride,
                                 first, false};
  if constexpr (C::has_levels) {
    if (group == 0) {
      GroupRows<C, Input> const values{ref, ChunkRows<Input>::row(chunk.rows.v, g, work.head, 0),
                                       stride, first, true};
      note_means<group_rows, Threads>(values, g.head_dim, ref.means);
    }
  }
  Encoder<typename C::Digest>::template encode<Threads>(
      encoder, keys, C::weighs ? ref.importance : nullptr, g.head_dim,
      ref.digest(static_cast<std::uint32_t>(group)));
}

/// @brief The chunk's rows are the lane's. By one block.
template <class C, int Threads>
__device__ void end_chunk(LaneRef<C> const& ref) {
  LaneState& lane = *ref.lane;
  if (threadIdx.x == 0) {
    int const chunk = lane.chunk;
    lane.rows += chunk;
    lane.slots += chunk - lane.chunk_frozen;
    lane.chunk = lane.chunk_frozen = 0;
    lane.moved_out = static_cast<std::uint64_t>(chunk) * ref.geometry->granule_bytes();
    if constexpr (C::has_digest) {
      lane.groups = lane.rows / C::Digest::group_rows;
    }
  }
  __syncthreads();
  find_tail<C, Threads>(ref);
  __syncthreads();
}

/// @brief Makes each lane ready to be ranked by one of the chunk's queries; before the first, the
/// chunk's rows become the lane's. One block a lane.
/// @param token whose query it is
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void vote_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, ChunkRows<Input> chunk, int token) {
  WorkLane const work(g, s, static_cast<int>(blockIdx.x));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState& lane = *ref.lane;
  if (s.pass == Pass::look) {
    bool const refused = lane.chunk == 0;
    __syncthreads();  // all have read what end_chunk() changes
    end_chunk<C, Threads>(ref);
    if (threadIdx.x == 0) {
      auto const open = ref.open_range();
      lane.mode = refused || open.low >= open.high ? LaneMode::dense : LaneMode::looks;
    }
    __syncthreads();
  }
  float* const octaves =
      s.queries + static_cast<std::ptrdiff_t>(blockIdx.x) * g.lane_queries * g.head_dim;
  load_queries<Input, Threads>(g, chunk.queries(g, work.head, token), octaves);
  describe_lane<C, Threads>(ref, s, static_cast<int>(blockIdx.x));
}

}  // namespace kvfreeze::gpu::detail
