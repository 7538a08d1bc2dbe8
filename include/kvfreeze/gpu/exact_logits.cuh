#pragma once

#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/decode_shape.cuh>
#include <kvfreeze/gpu/detail/exact_logits_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_attention.cuh>

#include <cuda/stream_ref>

#include <cstddef>

namespace kvfreeze::gpu {

/// @brief Logits of all exact rows of a batch of lanes, without attention: the bits of
/// host::block_logits. K alone is read, once for all query heads of the KV head.
///
/// Lanes without a place for logits are left out.
/// @tparam MaxDim, Lanes as in decode_attention_async()
/// @param shape its `blocks` and `longest` count; `compact_only` does not
/// @param q [lanes][group][head_dim]
/// @throws InvalidArgument if sizes do not fit, CudaError if the launch fails; nothing was done
/// then
/// @stream_semantics enqueues one kernel; never waits, never allocates, may be captured. All that
///   is handed in, descriptors included, must live until it has run
/// @complexity O(rows * group * head_dim)
template <int MaxDim = 0, class Lanes>
void exact_logits_async(Lanes const& lanes, DecodeShape const& shape, Span<float const> q,
                        ::cuda::stream_ref stream) {
  constexpr char const* name = "exact_logits_async()";
  detail::check_shape<MaxDim>(name, shape);
  detail::check_extent(name, "q", q.size(),
                       lanes.size() * static_cast<std::size_t>(shape.group) *
                           static_cast<std::size_t>(shape.head_dim),
                       "[lanes][group][head_dim]");
  if (lanes.size() == 0) {
    return;
  }
  detail::with_slot_dim<MaxDim>(shape.head_dim, [&](auto dim) {
    using Tiles = detail::LogitTiles<typename Lanes::Lane, dim()>;
    using Sizes = typename Tiles::Sizes;
    detail::AttentionGrid const grid =
        detail::attention_grid<Sizes>(shape, lanes.size(), 1, Tiles::Source::tile_rows);
    detail::LogitArguments arguments;
    arguments.group = shape.group;
    arguments.heads = grid.heads;
    arguments.head_groups = grid.head_groups;
    arguments.dim = shape.head_dim;
    arguments.octaves = shape.octaves;
    arguments.q = q.data();
    auto const kernel = detail::exact_logits_kernel<Lanes, dim()>;
    constexpr std::size_t shared = sizeof(typename Tiles::Storage);
    detail::allow_shared_memory(kernel, shared);
    kernel<<<dim3(grid.blocks, grid.passes), Sizes::threads, shared, stream.get()>>>(lanes,
                                                                                     arguments);
    check_launch("exact_logits_kernel");
  });
}

}  // namespace kvfreeze::gpu
