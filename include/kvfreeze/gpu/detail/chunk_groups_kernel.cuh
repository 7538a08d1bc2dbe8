#pragma once

#include <kvfreeze/gpu/detail/chunk_rows_kernels.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Keys or values of a group that a chunk completes: those that were there before in their slots,
/// the others as the caller gave them.
template <class C, class Input>
struct GroupRows {
  using Value = typename C::Value;

  LaneRef<C> const& ref;
  Input const* chunk;     ///< the KV head's part of the chunk's first row
  std::ptrdiff_t stride;  ///< from row to row of the chunk
  int first;              ///< position of the group's first row
  int channel;            ///< of the lane's rows, the KV head's first
  bool values;            ///< V, not K

  __device__ float operator()(int row, int d) const {
    int const position = first + row;
    LaneState const& lane = *ref.lane;
    if (position < lane.rows) {
      std::uint32_t const place = lane.tail[position - ref.tail_row()];
      return widened((values ? ref.row_v_at(place) : ref.row_k_at(place))[channel + d]);
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
  if constexpr (C::has_levels) {
    if (group == 0) {
      GroupRows<C, Input> const values{
          ref, ChunkRows<Input>::row(chunk.rows.v, g, work.head, 0), stride, first, 0, true};
      note_means<group_rows, Threads>(values, g.row_elements, ref.means);
    }
  }
  for (int head = 0; head < g.heads_per_lane; ++head) {
    int const channel = head * g.head_dim;
    GroupRows<C, Input> const keys{
        ref,     ChunkRows<Input>::row(chunk.rows.k, g, work.head, 0) + channel,
        stride,  first,
        channel, false};
    Encoder<typename C::Digest>::template encode<Threads>(
        encoder, keys, C::weighs ? ref.importance + channel : nullptr, g.head_dim,
        ref.digest(static_cast<std::uint32_t>(group), head));
    __syncthreads();
  }
}

}  // namespace kvfreeze::gpu::detail
