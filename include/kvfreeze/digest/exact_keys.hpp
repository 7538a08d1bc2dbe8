#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/dot.hpp>
#include <kvfreeze/host/kernels/group_statistics.hpp>

#include <cstddef>

namespace kvfreeze {

/// @brief The keys themselves: an oracle, as large as the keys it stands for.
///
/// With it recall knows every row's true q . k: what a published "top-k of the current query" was
/// measured with, and the bound of what any digest can do. No memory is saved on keys.
///
/// Format: [16 rows][dim] Half. Exact where the layout's elements are Half; of others those beyond
/// what Half holds count as its largest.
struct ExactKeys {
  static constexpr int group_rows = 16;

  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    return static_cast<std::size_t>(group_rows) * static_cast<std::size_t>(dim) * sizeof(Half);
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    auto* const out = reinterpret_cast<Half*>(group);
    for (int i = 0; i < group_rows * dim; ++i) {
      out[i] = host::kernels::clamped_half(keys[i]);
    }
  }

  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    auto const* const keys = reinterpret_cast<Half const*>(group);
    for (int h = 0; h < query.heads; ++h) {
      for (int row = 0; row < group_rows; ++row) {
        logits[h * stride + row] =
            host::dot(query.values + h * query.dim, keys + row * query.dim, query.dim);
      }
    }
  }
};

static_assert(DigestPolicy<ExactKeys>);

}  // namespace kvfreeze
