#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/group_statistics.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze {

/// @brief The mean key of a group. Small, and too coarse for most models: kept for comparison.
///
/// Format: [mean: dim Half]. Every row of the group is given the mean's q . k.
/// @tparam Rows of a group, a multiple of 16
template <int Rows = 16>
struct MeanKeyDigest {
  static_assert(Rows > 0 && Rows % 16 == 0, "kvfreeze: Rows must be a multiple of 16");

  static constexpr int group_rows = Rows;

  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    return static_cast<std::size_t>(dim) * sizeof(Half);
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    host::encode_mean(keys, Rows, dim, reinterpret_cast<Half*>(group));
  }

  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    auto const* const mean = reinterpret_cast<Half const*>(group);
    for (int h = 0; h < query.heads; ++h) {
      float const estimate = host::dot(query.values + h * query.dim, mean, query.dim);
      std::fill_n(logits + h * stride, Rows, estimate);
    }
  }
};

static_assert(DigestPolicy<MeanKeyDigest<>>);

}  // namespace kvfreeze
