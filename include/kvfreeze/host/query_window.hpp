#pragma once

#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/kernels/dot.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace kvfreeze::host {

/// |q.k| of one logit (octaves) in nats, in units of 2^-12: integers, so that what a query added to
/// a sum can be taken away again exactly.
inline std::uint32_t fixed_dot(float logit, float limit) noexcept {
  float const nats = std::fabs(logit) * 0.693147180559945309417F;
  return static_cast<std::uint32_t>(std::min(nats, limit) * 4096.0F);
}

/// Mean |q.k| of a row from its sum over `queries` queries of `heads` heads.
inline float mean_dot(std::uint32_t sum, int queries, int heads) noexcept {
  return queries <= 0 ? 0.0F
                      : static_cast<float>(sum) /
                            (static_cast<float>(queries) * static_cast<float>(heads) * 4096.0F);
}

/// One query's contribution to the sum of the row whose key starts at `key`.
template <class C>
std::uint32_t dot_contribution(LaneJob<C> const& job, float const* query,
                               typename C::Value const* key) noexcept {
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::uint32_t sum = 0;
  for (int h = 0; h < g.lane_queries; ++h) {
    sum += fixed_dot(dot(query + static_cast<std::ptrdiff_t>(h) * dim,
                         key + static_cast<std::ptrdiff_t>(h / g.group) * dim, dim),
                     g.dot_limit);
  }
  return sum;
}

/// Queries of the window that a row at `position` has seen. The newest query belongs to the
/// lane's newest row.
template <class C>
int queries_seen(LaneJob<C> const& job, int position) noexcept {
  auto const pushed = static_cast<int>(std::min<std::uint32_t>(
      job.lane().queries, static_cast<std::uint32_t>(job.geometry().window_queries)));
  return std::min(pushed, job.lane().rows - position);
}

/// Entry of the ring that was pushed `age` queries ago (0: the newest).
template <class C>
float* ring_entry(LaneJob<C> const& job, std::uint32_t age) noexcept {
  Geometry const& g = job.geometry();
  auto const window = static_cast<std::uint32_t>(g.window_queries);
  std::uint32_t const index = (job.lane().queries - 1 - age) % window;
  return job.ref.ring + static_cast<std::ptrdiff_t>(index) * g.lane_queries * g.shape.head_dim;
}

/// @brief Sums of a granule over the window as it stands: as if it had never been away.
///
/// @param lag rows appended since the newest entry was pushed: 1 before attention, 0 after it
/// @complexity O(window) dot products a row
template <class C>
void rebuild_sums(LaneJob<C> const& job, std::uint32_t slot, int lag) noexcept {
  if constexpr (C::needs_queries) {
    Geometry const& g = job.geometry();
    std::uint32_t const granule = C::in_place ? slot : job.ref.record(slot).granule;
    auto const pushed = static_cast<int>(
        std::min<std::uint32_t>(job.lane().queries, static_cast<std::uint32_t>(g.window_queries)));
    for (int row = 0; row < job.ref.rows_of(granule); ++row) {
      int const position = static_cast<int>(granule) * g.page + row;
      int const seen = std::min(pushed, job.lane().rows - lag - position);
      std::uint32_t sum = 0;
      for (int age = 0; age < seen; ++age) {
        sum +=
            dot_contribution(job, ring_entry(job, static_cast<std::uint32_t>(age)),
                             job.ref.k(slot) + static_cast<std::ptrdiff_t>(row) * g.row_elements);
      }
      job.ref.sums(slot)[row] = sum;
    }
  }
}

/// Keeps the cosine between this step's queries and the last ones, for drift triggers.
template <class C>
void note_cosine(LaneJob<C> const& job) noexcept {
  if constexpr (C::needs_cosine) {
    int const n = job.geometry().lane_queries * job.geometry().shape.head_dim;
    float const* const now = job.scratch->query();
    float const qq = sum_of_squares(now, n);
    float const pp = sum_of_squares(job.ref.previous, n);
    job.lane().cosine =
        qq > 0.0F && pp > 0.0F ? dot(now, job.ref.previous, n) / std::sqrt(qq * pp) : 1.0F;
    std::copy_n(now, n, job.ref.previous);
  }
}

}  // namespace kvfreeze::host
