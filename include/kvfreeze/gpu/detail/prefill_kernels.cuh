#pragma once

/// @file
/// @brief A chunk of one sequence's tokens comes into a layer's lanes: rows written through to the
/// tier, digest groups that they complete, then the last queries' votes.

#include <kvfreeze/gpu/detail/append_kernels.cuh>

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
    bool fits = rows <= g.max_tokens;
    if (!fits) {
      atomicOr(status, Status::too_long);
    } else {
      fits = grow(ref, memory.pool, rows_segment, lane.slots + chunk.tokens);
      if constexpr (C::has_digest) {
        fits = fits && grow(ref, memory.pool, digests_segment, rows / C::Digest::group_rows);
      }
      if (!fits) {
        atomicOr(status, Status::no_pages);
      }
    }
    lane.chunk = fits ? chunk.tokens : 0;
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
  auto const slot = static_cast<std::uint32_t>(ref.lane->slots + token);
  auto const granule = static_cast<std::uint32_t>(ref.lane->rows + token);
  Input const* const k = ChunkRows<Input>::row(chunk.rows.k, g, work.head, token);
  Input const* const v = ChunkRows<Input>::row(chunk.rows.v, g, work.head, token);
  Input const* const q = chunk.queries(g, work.head, token);
  Value* const row_k = ref.k(slot);
  Value* const row_v = ref.v(slot);
  auto* const stored = reinterpret_cast<Value*>(ref.stored(granule));
  int const lane = static_cast<int>(threadIdx.x) % 32;
  bool finite = true;
  for (int i = lane; i < g.lane_queries * g.head_dim; i += 32) {
    finite = finite && kvfreeze::detail::is_finite(to_float(q[i]));
  }
  for (int i = lane; i < g.row_elements; i += 32) {
    float const a = to_float(k[i]);
    float const b = to_float(v[i]);
    finite = finite && kvfreeze::detail::is_finite(a) && kvfreeze::detail::is_finite(b);
    row_k[i] = stored[i] = from_float<Value>(a);
    row_v[i] = stored[g.row_elements + i] = from_float<Value>(b);
  }
  if (!finite) {
    atomicOr(status, Status::not_finite);
  }
  if (lane == 0) {
    ref.record(slot) = {granule, static_cast<std::uint16_t>(work.step), 0};
    ref.states[granule] = ref.newborn(granule);
    ref.plans[granule] = 0;
  }
}

/// Keys and values of a group that a chunk completes: in the tail's slots, then in the chunk's.
template <class C>
struct GroupRows {
  LaneRef<C> const& ref;
  int first;  ///< position of the group's first row

  [[nodiscard]] __device__ std::uint32_t slot(int row) const {
    LaneState const& lane = *ref.lane;
    int const position = first + row;
    return position < lane.rows ? lane.tail[position - ref.tail_begin()]
                                : static_cast<std::uint32_t>(lane.slots + position - lane.rows);
  }

  __device__ float operator()(int row, int d) const { return widened(ref.k(slot(row))[d]); }

  [[nodiscard]] __device__ float4 quad(int row, int quad) const {
    return load_quad(ref.k(slot(row)) + 4 * quad);
  }
};

/// @brief Digest groups that the chunk completes, a block each. Grid (groups, lanes).
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void chunk_groups_kernel(Geometry g, CacheMemory memory, LayerStep<C> s) {
  __shared__ typename Encoder<typename C::Digest>::Storage encoder;
  constexpr int group_rows = C::Digest::group_rows;
  WorkLane const work(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState const& lane = *ref.lane;
  int const group = lane.groups + static_cast<int>(blockIdx.x);
  if (lane.chunk == 0 || (group + 1) * group_rows > lane.rows + lane.chunk) {
    return;
  }
  GroupRows<C> const rows{ref, group * group_rows};
  if constexpr (C::has_levels) {
    if (group == 0) {
      note_means<group_rows, Threads>(
          [&](int row, int d) { return widened(ref.v(rows.slot(row))[d]); }, g.head_dim, ref.means);
    }
  }
  Encoder<typename C::Digest>::template encode<Threads>(
      encoder, rows, C::weighs ? ref.importance : nullptr, g.head_dim,
      ref.digest(static_cast<std::uint32_t>(group)));
}

/// @brief The chunk's rows are the lane's. By one block.
template <class C, int Threads>
__device__ void end_chunk(LaneRef<C> const& ref) {
  LaneState& lane = *ref.lane;
  int const chunk = lane.chunk;
  int const before = lane.rows;
  int const slots = lane.slots;
  int const tail_before = C::has_digest ? ref.tail_begin() : 0;
  __syncthreads();  // all have read what follows changes
  if (threadIdx.x == 0) {
    lane.rows = before + chunk;
    lane.slots = slots + chunk;
    lane.chunk = 0;
    lane.moved_out = static_cast<std::uint64_t>(chunk) * ref.geometry->granule_bytes();
    if constexpr (C::has_digest) {
      lane.groups = lane.rows / C::Digest::group_rows;
    }
  }
  __syncthreads();
  if constexpr (C::has_digest) {
    // Fewer rows than threads: a thread each. The old tail's slots stay where no group was filled.
    int const first = ref.tail_begin();
    int const position = first + static_cast<int>(threadIdx.x);
    static_assert(C::Digest::group_rows <= Threads);
    if (position < lane.rows && (first > tail_before || position >= before)) {
      lane.tail[threadIdx.x] = static_cast<std::uint32_t>(slots + position - before);
    }
  }
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
