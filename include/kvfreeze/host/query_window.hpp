#pragma once

#include <kvfreeze/detail/mass_entropy.hpp>
#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/dot.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace kvfreeze::host {

/// |q.k| of one logit (octaves) in nats, in units of 2^-12: integers, so that what a query added to
/// a sum can be taken away again exactly.
inline std::uint32_t fixed_dot(float logit, float limit) noexcept {
  float const nats = std::fabs(logit) * kvfreeze::detail::nats_per_octave;
  return static_cast<std::uint32_t>(std::min(nats, limit) * 4096.0F);
}

/// Mean |q.k| of a row from its sum over `queries` queries of `heads` heads.
inline float mean_dot(std::uint32_t sum, int queries, int heads) noexcept {
  return queries <= 0 ? 0.0F
                      : static_cast<float>(sum) /
                            (static_cast<float>(queries) * static_cast<float>(heads) * 4096.0F);
}

inline constexpr int window_batch = 64;  ///< rows whose contributions are computed together

/// @brief One query's contributions to the sums of up to 64 rows.
/// @param keys [count] where the rows' keys start, first head
template <class C>
void dot_contributions(LaneJob<C> const& job, float const* query,
                       typename C::Value const* const* keys, int count,
                       std::uint32_t* out) noexcept {
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::fill_n(out, count, 0U);
  std::array<typename C::Value const*, window_batch> head_keys;
  std::array<float, static_cast<std::size_t>(64 * window_batch)> logits;
  for (int head = 0; head < g.heads_per_lane; ++head) {
    for (int i = 0; i < count; ++i) {
      head_keys[static_cast<std::size_t>(i)] = keys[i] + static_cast<std::ptrdiff_t>(head) * dim;
    }
    row_logits(head_keys.data(), count, query + static_cast<std::ptrdiff_t>(head) * g.group * dim,
               g.group, dim, logits.data(), window_batch);
    for (int h = 0; h < g.group; ++h) {
      for (int i = 0; i < count; ++i) {
        out[i] += fixed_dot(
            logits[static_cast<std::size_t>(h) * window_batch + static_cast<std::size_t>(i)],
            g.dot_limit);
      }
    }
  }
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

/// @brief Calls work(sums, positions, keys, count) for batches of the rows of some slots.
/// @param slot_at the i-th slot
template <class C, class SlotAt, class Work>
void for_row_batches(LaneJob<C> const& job, int slots, SlotAt&& slot_at, Work&& work) noexcept {
  std::array<std::uint32_t*, window_batch> sums;
  std::array<int, window_batch> positions;
  std::array<typename C::Value const*, window_batch> keys;
  int count = 0;
  for (int i = 0; i < slots; ++i) {
    std::uint32_t const slot = slot_at(i);
    std::uint32_t const granule = C::in_place ? slot : job.ref.record(slot).granule;
    for (int row = 0; row < job.ref.rows_of(granule); ++row) {
      auto const at = static_cast<std::size_t>(count++);
      sums[at] = job.ref.sums(slot) + row;
      positions[at] = static_cast<int>(granule) * C::page + row;
      keys[at] = job.ref.k(slot) + static_cast<std::ptrdiff_t>(row) * job.geometry().row_elements;
    }
    if (count + C::page > window_batch || i + 1 == slots) {
      work(sums.data(), positions.data(), keys.data(), count);
      count = 0;
    }
  }
}

/// @brief Sums of granules over the window as it stands: as if they had never been away.
/// @complexity O(window) dot products a row
template <class C, class SlotAt>
void rebuild_sums(LaneJob<C> const& job, int slots, SlotAt&& slot_at) noexcept {
  if constexpr (C::needs_queries) {
    for_row_batches(job, slots, slot_at,
                    [&](std::uint32_t* const* sums, int const* positions,
                        typename C::Value const* const* keys, int count) {
                      std::array<std::uint32_t, window_batch> add;
                      for (int i = 0; i < count; ++i) {
                        *sums[i] = 0;
                      }
                      for (int age = 0; age < job.lane().held; ++age) {
                        dot_contributions(job, ring_entry(job, age), keys, count, add.data());
                        for (int i = 0; i < count; ++i) {
                          *sums[i] += ring_position(job, age) >= positions[i]
                                          ? add[static_cast<std::size_t>(i)]
                                          : 0U;
                        }
                      }
                    });
  }
}

/// Takes one query back from the sums of the exact rows that had seen it.
template <class C>
void subtract_query(LaneJob<C> const& job, float const* query, int query_position) noexcept {
  std::uint32_t* const slots = job.scratch->slots();
  int exact = 0;
  job.ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if (static_cast<int>(granule) * C::page <= query_position) {
      slots[exact++] = slot;
    }
  });
  for_row_batches(
      job, exact, [&](int i) { return slots[i]; },
      [&](std::uint32_t* const* sums, int const* positions, typename C::Value const* const* keys,
          int count) {
        std::array<std::uint32_t, window_batch> take;
        dot_contributions(job, query, keys, count, take.data());
        for (int i = 0; i < count; ++i) {
          *sums[i] -= positions[i] <= query_position ? take[static_cast<std::size_t>(i)] : 0U;
        }
      });
}

/// @brief Takes the queries of rows from `rows` on back, exactly, from the ring and from the sums.
/// @complexity O(queries * exact rows) dot products
template <class C>
void forget_queries(LaneJob<C> const& job, int rows) noexcept {
  if constexpr (C::needs_queries) {
    Lane<C>& lane = job.lane();
    while (lane.held > 0 && ring_position(job, 0) >= rows) {
      subtract_query(job, ring_entry(job, 0), ring_position(job, 0));
      lane.queries -= 1;
      lane.held -= 1;
    }
  }
}

/// @brief Takes the entropy of one query's attention into the lane's running mean.
/// @param masses [rows] of one distribution, units of 2^-30
template <class C>
void note_entropy(LaneJob<C> const& job, std::uint32_t const* masses, int rows) noexcept {
  if constexpr (C::needs_entropy) {
    std::uint64_t sum = 0;
    for (int i = 0; i < rows; ++i) {
      sum += kvfreeze::detail::entropy_term(masses[i]);
    }
    LaneEntropy& entropy = job.lane().entropy;
    entropy.queries = std::min(entropy.queries + 1U, LaneEntropy::most);
    float const bits = kvfreeze::detail::entropy_bits(sum);
    entropy.mean =
        kvfreeze::detail::running_mean(entropy.mean, bits - entropy.mean, entropy.queries);
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
