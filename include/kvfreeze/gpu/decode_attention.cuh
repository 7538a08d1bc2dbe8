#pragma once

#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/decode_shape.cuh>
#include <kvfreeze/gpu/detail/decode_attention_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_attention.cuh>
#include <kvfreeze/gpu/workspace.cuh>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

namespace detail {

/// Lays out partial sums; with a base, into the arguments.
inline std::size_t lay_out_partials(AttentionGrid const& grid, int dim, std::byte* base,
                                    DecodeArguments& arguments) {
  WorkspaceLayout layout(base);
  std::size_t const sums = static_cast<std::size_t>(grid.passes) * grid.blocks * 2 *
                           static_cast<std::size_t>(grid.heads);
  arguments.partial_sums = layout.take<float2>(sums);
  arguments.partial_outs = layout.take<float>(sums * static_cast<std::size_t>(dim));
  return layout.bytes();
}

template <class Lanes, int Dim>
AttentionGrid decode_grid(DecodeShape const& shape, std::size_t lanes) {
  using Tiles = AttentionRuns<typename Lanes::Lane, Dim>;
  return attention_grid<typename Tiles::Sizes>(shape, lanes, Tiles::runs, Tiles::Exact::tile_rows);
}

}  // namespace detail

/// @brief Bytes of temporary memory for decode_attention_async, on the current device.
/// @tparam Lanes, MaxDim as in decode_attention_async
/// @throws InvalidArgument for a shape out of range, CudaError if there is no device
template <class Lanes, int MaxDim = 0>
std::size_t decode_attention_workspace_bytes(DecodeShape const& shape, std::size_t lanes) {
  detail::check_shape<MaxDim>("decode_attention_workspace_bytes()", shape);
  return detail::with_slot_dim<MaxDim>(shape.head_dim, [&](auto dim) {
    detail::DecodeArguments arguments;
    return detail::lay_out_partials(detail::decode_grid<Lanes, dim()>(shape, lanes), shape.head_dim,
                                    nullptr, arguments);
  });
}

/// @brief Tickets that decode_attention_async needs: by them blocks find out who is the last.
inline constexpr std::size_t decode_attention_tickets(DecodeShape const& shape, std::size_t lanes) {
  constexpr std::size_t heads_of_smallest_block = 8;
  return lanes * ((static_cast<std::size_t>(shape.group) + heads_of_smallest_block - 1) /
                  heads_of_smallest_block);
}

/// @brief Attention of one query token for each lane of a batch, over exact rows, compact rows and
/// the mean of what is absent, in one launch.
///
/// How many rows lanes have is read on the device; no block does more than another, however they
/// differ. Softmax and sums are in float: of exact arithmetic over the same logits out is within
/// (1e-6 + 5e-8 * sqrt(rows)) * sum of weight * |v|, lse within 2e-6 * max(1, |lse|). Logits that
/// are computed are those of host::attend to the bit, and written where lanes say so. With
/// attention_weight() and `lse` they give every row's weight.
///
/// Each row is read once for all query heads of the KV head (of up to 32; 16 or 8 where a row has
/// more than 256 or 512 bytes). The arithmetic is scalar: the order of host::dot rules tensor cores
/// out for K, and up to 8 heads scalar arithmetic is done before memory is.
/// @tparam MaxDim the largest head_dim, in [8, 256], where it is known when you compile: one kernel
/// is made and not three; 0: it is not known
/// @tparam Lanes AttentionLanes, or a type with its members
/// @param lanes one for each KV head of each sequence
/// @param q [lanes][group][head_dim]: [sequences][query_heads][head_dim] if lanes come sequence by
///   sequence
/// @param out [lanes][group][head_dim]; zeros where a lane has no rows
/// @param lse [lanes][group], natural, minus infinity where a lane has no rows; or empty
/// @param tickets decode_attention_tickets() zeros, which are zeros again afterwards
/// @param workspace decode_attention_workspace_bytes() bytes; neither this nor `tickets` may be in
///   use on another stream
/// @throws InvalidArgument if sizes do not fit, CudaError if the launch fails; nothing was done
/// then
/// @stream_semantics enqueues one kernel; never waits, never allocates, may be captured. All that
///   is handed in, descriptors included, must live until it has run
/// @complexity O(rows * group * head_dim)
template <int MaxDim = 0, class Lanes>
void decode_attention_async(Lanes const& lanes, DecodeShape const& shape, Span<float const> q,
                            Span<float> out, Span<float> lse, Span<std::uint32_t> tickets,
                            Span<std::byte> workspace, ::cuda::stream_ref stream) {
  constexpr char const* name = "decode_attention_async()";
  detail::check_shape<MaxDim>(name, shape);
  std::size_t const heads = lanes.size() * static_cast<std::size_t>(shape.group);
  std::size_t const elements = heads * static_cast<std::size_t>(shape.head_dim);
  detail::check_extent(name, "q", q.size(), elements, "[lanes][group][head_dim]");
  detail::check_extent(name, "out", out.size(), elements, "[lanes][group][head_dim]");
  if (!lse.empty()) {
    detail::check_extent(name, "lse", lse.size(), heads, "[lanes][group], or none");
  }
  if (tickets.size() < decode_attention_tickets(shape, lanes.size())) {
    throw InvalidArgument(std::string(name) + ": there are " + std::to_string(tickets.size()) +
                          " tickets, expected at least " +
                          std::to_string(decode_attention_tickets(shape, lanes.size())));
  }
  if (lanes.size() == 0) {
    return;
  }
  detail::with_slot_dim<MaxDim>(shape.head_dim, [&](auto dim) {
    using Lane = typename Lanes::Lane;
    detail::AttentionGrid const grid = detail::decode_grid<Lanes, dim()>(shape, lanes.size());
    detail::DecodeArguments arguments;
    detail::check_workspace(name, workspace,
                            detail::lay_out_partials(grid, shape.head_dim, nullptr, arguments));
    detail::lay_out_partials(grid, shape.head_dim, workspace.data(), arguments);
    arguments.group = shape.group;
    arguments.heads = grid.heads;
    arguments.head_groups = grid.head_groups;
    arguments.dim = shape.head_dim;
    arguments.octaves = shape.octaves;
    arguments.compact_only = shape.compact_only;
    arguments.q = q.data();
    arguments.out = out.data();
    arguments.lse = lse.empty() ? nullptr : lse.data();
    arguments.tickets = tickets.data();
    if constexpr (Lane::levels > 0) {
      arguments.tables = detail::CodeLevels::make();
    }
    auto const kernel = detail::decode_attention_kernel<Lanes, dim()>;
    std::size_t const shared = detail::decode_shared_bytes<Lane, dim()>(grid.heads, shape.head_dim);
    detail::allow_shared_memory(kernel, shared);
    constexpr int threads = detail::AttentionRuns<Lane, dim()>::Sizes::threads;
    kernel<<<dim3(grid.blocks, grid.passes), threads, shared, stream.get()>>>(lanes, arguments);
    check_launch("decode_attention_kernel");
  });
}

}  // namespace kvfreeze::gpu
