#pragma once

/// @file
/// @brief What the queries of a lane look at: their summed squares by channel, for digests that
/// spend their bits accordingly, and their means, for scorers that rate rows by them.

#include <kvfreeze/detail/importance.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/moments.hpp>

#include <algorithm>
#include <cstddef>

namespace kvfreeze::host {

/// Have any queries been noted?
inline bool is_known(float const* importance, int dim) noexcept {
  return std::any_of(importance, importance + dim, [](float sum) { return sum > 0.0F; });
}

/// @brief Adds a step's queries to the lane's sums and means; a repeated call of the same step adds
/// nothing. Before the step's rows are appended, so that the first groups know the chunk's queries.
/// @param q the lane's queries of the first token, [lane_queries][head_dim]
/// @param stride floats from one token's to the next
/// @complexity O(tokens * lane_queries * head_dim)
template <class C>
void note_importance(LaneJob<C> const& job, float const* q, int tokens, int stride) noexcept {
  if constexpr (C::weighs || C::rates) {
    Lane<C>& lane = job.lane();
    std::uint32_t const call = job.step() + 1U;
    if (lane.weighed == call) {
      return;
    }
    lane.weighed = call;
    Geometry const& g = job.geometry();
    int const dim = g.shape.head_dim;
    for (int token = 0; token < tokens; ++token) {
      note_query_moments(job, q + static_cast<std::ptrdiff_t>(token) * stride);
      for (int h = 0; C::weighs && h < g.lane_queries; ++h) {
        float const* const query =
            q + static_cast<std::ptrdiff_t>(token) * stride + static_cast<std::ptrdiff_t>(h) * dim;
        float* const sums = job.ref.importance + static_cast<std::ptrdiff_t>(h / g.group) * dim;
        for (int d = 0; d < dim; ++d) {
          sums[d] = kvfreeze::detail::add_square(sums[d], query[d]);
        }
      }
    }
  }
}

}  // namespace kvfreeze::host
