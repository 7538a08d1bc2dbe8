#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/host/kernels/radix_select.hpp>
#include <kvfreeze/host/kernels/segments.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace kvfreeze::host {

/// @brief Marks the k highest scores of each segment; of equal scores, the first in position.
///
/// Segment s is [offsets[s], offsets[s + 1]); elements outside all segments are left alone. A
/// segment of at most k elements is marked whole. Any score but NaN; both zeros are equal.
/// @param selected as long as `scores`: 1 for selected elements, 0 for the others
/// @return how many were selected
/// @throws InvalidArgument on offsets or sizes that do not fit, or a NaN; nothing was written then
/// @complexity O(scores): four passes, no allocation
inline std::size_t top_k(std::span<float const> scores, std::span<std::uint32_t const> offsets,
                         std::uint32_t k, std::span<std::uint8_t> selected) {
  detail::check_segments("top_k", offsets, scores.size());
  detail::check_size("top_k", "selected", selected.size(), scores.size());
  std::uint32_t nans = 0;
  for (float const x : scores) {  // without an exit, so that the loop is vectorised
    nans |= std::isnan(x) ? 1U : 0U;
  }
  if (nans != 0) {
    auto const first =
        std::find_if(scores.begin(), scores.end(), [](float x) { return std::isnan(x); });
    throw InvalidArgument("top_k: scores[" + std::to_string(first - scores.begin()) + "] is NaN");
  }
  std::size_t total = 0;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    float const* const segment = scores.data() + offsets[s];
    std::uint8_t* const out = selected.data() + offsets[s];
    std::size_t const n = offsets[s + 1] - offsets[s];
    if (k == 0 || n <= k) {
      std::fill_n(out, n, static_cast<std::uint8_t>(k != 0));
      total += k != 0 ? n : 0;
      continue;
    }
    auto const key = [=](std::size_t i) { return detail::ordered_key(segment[i]); };
    auto const one = [](std::uint32_t) { return std::uint64_t{1}; };
    total += detail::apply_radix(detail::radix_select(n, k, key, one), n, key, out);
  }
  return total;
}

}  // namespace kvfreeze::host
