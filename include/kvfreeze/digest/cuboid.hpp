#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/group_statistics.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze {

/// @brief A bounding box about the mean key (ArkVale's cuboid): the estimate is halfway between the
/// mean's q . k and the box's upper bound.
///
/// Format: [mean: dim Half][low: dim Half][high: dim Half]. Every row of the group is given the
/// group's estimate.
/// @tparam Rows of a group, a multiple of 16
template <int Rows = 32>
struct CuboidDigest {
  static_assert(Rows > 0 && Rows % 16 == 0, "kvfreeze: Rows must be a multiple of 16");

  static constexpr int group_rows = Rows;

  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    return 3U * static_cast<std::size_t>(dim) * sizeof(Half);
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    auto* const mean = reinterpret_cast<Half*>(group);
    host::encode_mean(keys, Rows, dim, mean);
    host::encode_bounds(keys, Rows, dim, mean + dim, mean + 2 * dim);
  }

  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    auto const* const mean = reinterpret_cast<Half const*>(group);
    int const dim = query.dim;
    for (int h = 0; h < query.heads; ++h) {
      float const* const q = query.values + h * dim;
      float const bound = host::upper_bound(q, mean + dim, mean + 2 * dim, dim);
      float const estimate = (bound + host::dot(q, mean, dim)) * 0.5F;
      std::fill_n(logits + h * stride, Rows, estimate);
    }
  }
};

static_assert(DigestPolicy<CuboidDigest<>>);

}  // namespace kvfreeze
