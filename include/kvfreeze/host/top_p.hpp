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

/// @brief Marks, in each segment, the smallest set of highest masses whose sum is at least the
/// fraction p of the segment's; of equal masses, the first in position.
///
/// Masses are integers (any unit), so that the answer does not depend on the order of summation.
/// The goal is ceil(p * sum), the product in double. Segments as in `top_k`. Zero masses are never
/// marked.
/// @param p in [0, 1]; 0 marks nothing
/// @param selected as long as `masses`: 1 for selected elements, 0 for the others
/// @return how many were selected
/// @throws InvalidArgument on offsets, sizes or p that do not fit; nothing was written then
/// @complexity O(masses): five passes, no allocation
inline std::size_t top_p(std::span<std::uint32_t const> masses,
                         std::span<std::uint32_t const> offsets, float p,
                         std::span<std::uint8_t> selected) {
  detail::check_segments("top_p", offsets, masses.size());
  detail::check_size("top_p", "selected", selected.size(), masses.size());
  if (!(p >= 0.0F && p <= 1.0F)) {
    throw InvalidArgument("top_p: p is " + std::to_string(p) + ", expected a number in [0, 1]");
  }
  std::size_t total = 0;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    std::uint32_t const* const segment = masses.data() + offsets[s];
    std::uint8_t* const out = selected.data() + offsets[s];
    std::size_t const n = offsets[s + 1] - offsets[s];
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sum += segment[i];
    }
    double const wanted = std::ceil(static_cast<double>(sum) * static_cast<double>(p));
    std::uint64_t const goal = std::min(sum, static_cast<std::uint64_t>(wanted));
    if (goal == 0) {
      std::fill_n(out, n, std::uint8_t{0});
      continue;
    }
    auto const key = [=](std::size_t i) { return segment[i]; };
    auto const weight = [](std::uint32_t mass) { return std::uint64_t{mass}; };
    total += detail::apply_radix(detail::radix_select(n, goal, key, weight), n, key, out);
  }
  return total;
}

}  // namespace kvfreeze::host
