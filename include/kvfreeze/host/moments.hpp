#pragma once

/// @file
/// @brief What a lane knows of its rows and queries as a whole, and how scorers rate rows by it.

#include <kvfreeze/detail/mass_entropy.hpp>
#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/kernels/convert.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace kvfreeze::host {

inline constexpr int most_dim = 512;  ///< @see Shape::head_dim

/// One KV head's moments: [direction][queries][squares].
template <class C>
float* head_moments(LaneRef<C> const& ref, int head) noexcept {
  Geometry const& g = *ref.geometry;
  return ref.moments + static_cast<std::ptrdiff_t>(head) * (1 + 2 * g.group) * g.shape.head_dim;
}

template <class C>
LaneMoments lane_moments(LaneRef<C> const& ref, int head) noexcept {
  Geometry const& g = *ref.geometry;
  int const dim = g.shape.head_dim;
  float const* const first = head_moments(ref, head);
  return {first, first + dim, first + dim + static_cast<std::ptrdiff_t>(g.group) * dim, g.group,
          g.octaves * kvfreeze::detail::nats_per_octave};
}

/// Takes a token's queries into the running means.
/// @param q the lane's queries, [lane_queries][head_dim]
template <class C>
void note_query_moments(LaneJob<C> const& job, float const* q) noexcept {
  if constexpr (C::rates) {
    Geometry const& g = job.geometry();
    int const n = g.group * g.shape.head_dim;
    Lane<C>& lane = job.lane();
    lane.moments.queries = std::min(lane.moments.queries + 1U, MomentCount::most);
    for (int head = 0; head < g.heads_per_lane; ++head) {
      float* const means = head_moments(job.ref, head) + g.shape.head_dim;
      for (int i = 0; i < n; ++i) {
        float const x = q[head * n + i];
        means[i] = kvfreeze::detail::running_mean(means[i], x - means[i], lane.moments.queries);
        means[n + i] = kvfreeze::detail::running_mean(
            means[n + i], kvfreeze::detail::fused(x, x, -means[n + i]), lane.moments.queries);
      }
    }
  }
}

/// Adds a new row's keys to the lane's direction.
/// @param k the row's keys as they are stored, [KV heads][head_dim]
template <class C>
void note_direction(LaneRef<C> const& ref, typename C::Value const* k) noexcept {
  if constexpr (C::rates) {
    Geometry const& g = *ref.geometry;
    int const dim = g.shape.head_dim;
    std::array<float, most_dim> key;
    for (int head = 0; head < g.heads_per_lane; ++head) {
      to_floats(k + static_cast<std::ptrdiff_t>(head) * dim, key.data(),
                static_cast<std::size_t>(dim));
      kvfreeze::detail::add_direction(head_moments(ref, head), key.data(), dim);
    }
  }
}

/// The scorer's rating of an exact granule: mean over its rows and KV heads; 0 if it overflows.
template <class C>
float rate_granule(LaneJob<C> const& job, std::uint32_t slot, std::uint32_t granule) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::array<float, most_dim> key;
  std::array<float, most_dim> value;
  int const rows = ref.rows_of(granule);
  float sum = 0.0F;
  for (int row = 0; row < rows; ++row) {
    for (int head = 0; head < g.heads_per_lane; ++head) {
      std::ptrdiff_t const at = static_cast<std::ptrdiff_t>(row) * g.row_elements +
                                static_cast<std::ptrdiff_t>(head) * dim;
      to_floats(ref.k(slot) + at, key.data(), static_cast<std::size_t>(dim));
      to_floats(ref.v(slot) + at, value.data(), static_cast<std::size_t>(dim));
      sum += job.context->scorer.rate({key.data(), value.data(), dim}, lane_moments(ref, head));
    }
  }
  float const mean = kvfreeze::detail::quotient(sum, static_cast<float>(rows * g.heads_per_lane));
  return kvfreeze::detail::is_finite(mean) ? mean : 0.0F;
}

}  // namespace kvfreeze::host
