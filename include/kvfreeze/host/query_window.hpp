#pragma once

#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/kernels/dot.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

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

/// Entry of the ring that was pushed `age` queries ago (0: the newest).
template <class C>
float* ring_entry(LaneJob<C> const& job, int age) noexcept {
  Geometry const& g = job.geometry();
  auto const window = static_cast<std::uint32_t>(g.window_queries);
  std::uint32_t const index = (job.lane().queries - 1U - static_cast<std::uint32_t>(age)) % window;
  return job.ref.ring + static_cast<std::ptrdiff_t>(index) * g.lane_queries * g.shape.head_dim;
}

/// Position of the row that the entry's query came with.
template <class C>
std::int32_t& ring_position(LaneJob<C> const& job, int age) noexcept {
  auto const window = static_cast<std::uint32_t>(job.geometry().window_queries);
  return job.ref
      .ring_positions[(job.lane().queries - 1U - static_cast<std::uint32_t>(age)) % window];
}

/// Puts the scratch's queries on the ring; the oldest entry gives way.
template <class C>
void push_query(LaneJob<C> const& job, int position) noexcept {
  Geometry const& g = job.geometry();
  Lane<C>& lane = job.lane();
  lane.queries += 1;
  lane.held = std::min(lane.held + 1, g.window_queries);
  std::copy_n(job.scratch->query(), g.lane_queries * g.shape.head_dim, ring_entry(job, 0));
  ring_position(job, 0) = position;
}

/// Queries of the window that a row at `position` has seen: those of its own step and later ones.
template <class C>
int queries_seen(LaneJob<C> const& job, int position) noexcept {
  int const held = job.lane().held;
  if (held == 0 || ring_position(job, held - 1) >= position) {
    return held;
  }
  int seen = 0;
  while (ring_position(job, seen) >= position) {
    seen += 1;
  }
  return seen;
}

/// @brief Sums of a granule over the window as it stands: as if it had never been away.
/// @complexity O(window) dot products a row
template <class C>
void rebuild_sums(LaneJob<C> const& job, std::uint32_t slot) noexcept {
  if constexpr (C::needs_queries) {
    Geometry const& g = job.geometry();
    std::uint32_t const granule = C::in_place ? slot : job.ref.record(slot).granule;
    for (int row = 0; row < job.ref.rows_of(granule); ++row) {
      int const seen = queries_seen(job, static_cast<int>(granule) * g.page + row);
      std::uint32_t sum = 0;
      for (int age = 0; age < seen; ++age) {
        sum +=
            dot_contribution(job, ring_entry(job, age),
                             job.ref.k(slot) + static_cast<std::ptrdiff_t>(row) * g.row_elements);
      }
      job.ref.sums(slot)[row] = sum;
    }
  }
}

/// @brief Takes the queries of rows from `rows` on back, exactly, from the ring and from the sums.
/// @complexity O(queries * exact rows) dot products
template <class C>
void forget_queries(LaneJob<C> const& job, int rows) noexcept {
  if constexpr (C::needs_queries) {
    Lane<C>& lane = job.lane();
    Geometry const& g = job.geometry();
    while (lane.held > 0 && ring_position(job, 0) >= rows) {
      float const* const query = ring_entry(job, 0);
      int const position = ring_position(job, 0);
      job.ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
        for (int row = 0; row < job.ref.rows_of(granule); ++row) {
          if (static_cast<int>(granule) * g.page + row <= position) {
            job.ref.sums(slot)[row] -= dot_contribution(
                job, query, job.ref.k(slot) + static_cast<std::ptrdiff_t>(row) * g.row_elements);
          }
        }
      });
      lane.queries -= 1;
      lane.held -= 1;
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
