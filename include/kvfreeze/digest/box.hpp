#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/group_statistics.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze {

/// @brief The smallest and largest value of each channel: bounds q . k from above (Quest).
///
/// Format: [low: dim Half][high: dim Half], rounded outwards. Every row of the group is given the
/// group's bound, the sum over channels of max(q low, q high).
/// @tparam Rows of a group, a multiple of 16
template <int Rows = 16>
struct BoxDigest {
  static_assert(Rows > 0 && Rows % 16 == 0, "kvfreeze: Rows must be a multiple of 16");

  static constexpr int group_rows = Rows;

  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    return 2U * static_cast<std::size_t>(dim) * sizeof(Half);
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    auto* const low = reinterpret_cast<Half*>(group);
    host::encode_bounds(keys, Rows, dim, low, low + dim);
  }

  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    auto const* const low = reinterpret_cast<Half const*>(group);
    for (int h = 0; h < query.heads; ++h) {
      float const bound =
          host::upper_bound(query.values + h * query.dim, low, low + query.dim, query.dim);
      std::fill_n(logits + h * stride, Rows, bound);
    }
  }
};

static_assert(DigestPolicy<BoxDigest<>>);

}  // namespace kvfreeze
