#pragma once

#include <kvfreeze/gpu/detail/exact_logits_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_attention.cuh>
#include <kvfreeze/gpu/geometry.cuh>

namespace kvfreeze::gpu::detail {

/// @brief What blocks that work on exact rows beside other things are told: all passes are theirs.
/// @param q [lanes][KV heads][group][dim], in octaves
template <class Tiles>
LogitArguments logit_arguments(Geometry const& g, float const* q) {
  AttentionGrid const heads = share_heads<typename Tiles::Sizes>(g.group);
  LogitArguments arguments;
  arguments.group = g.group;
  arguments.heads = heads.heads;
  arguments.head_groups = heads.head_groups;
  arguments.passes = static_cast<int>(heads.passes);
  arguments.dim = g.head_dim;
  arguments.q = q;
  return arguments;
}

}  // namespace kvfreeze::gpu::detail
