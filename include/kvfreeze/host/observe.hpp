#pragma once

#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/query_window.hpp>
#include <kvfreeze/host/recall.hpp>
#include <kvfreeze/host/scores.hpp>

#include <algorithm>
#include <array>

namespace kvfreeze::host {

/// @brief The rows of a lane that attention reads, as slots of single rows.
struct RowList {
  std::uint32_t const* slots = nullptr;  ///< null: 0, 1, ..., count - 1
  int count = 0;
};

/// @brief Lists the exact rows: in position order if `by_position` or if all are exact, otherwise
/// in the order in which they lie, so that attention streams. May use the scratch's `list()`, and
/// `slots()` while it runs.
template <class C>
RowList list_rows(LaneJob<C> const& job, bool by_position) noexcept {
  LaneRef<C> const& ref = job.ref;
  int const granules = ref.granules();
  if constexpr (!C::in_place) {
    if (ref.lane->exact == granules && !ref.lane->ordered) {
      restore_order(ref, *job.scratch);
    }
  }
  bool const complete = ref.lane->exact == granules;
  if (complete && (C::in_place || ref.lane->ordered)) {
    return {nullptr, ref.lane->rows};
  }
  if (!C::in_place && C::page == 1 && !by_position) {
    return {nullptr, ref.lane->slots};
  }
  std::uint32_t* const list = job.scratch->list();
  int count = 0;
  auto const push = [&](std::uint32_t slot, std::uint32_t granule) {
    for (int row = 0; row < ref.rows_of(granule); ++row) {
      list[count++] = slot * C::page + static_cast<std::uint32_t>(row);
    }
  };
  if (!C::in_place && by_position) {
    std::uint32_t* const map = job.scratch->slots();
    ref.map_slots(0, static_cast<std::uint32_t>(granules), map);
    for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(granules); ++granule) {
      if (map[granule] != no_slot) {
        push(map[granule], granule);
      }
    }
  } else {
    ref.for_each_exact(push);
  }
  return {list, count};
}

/// Key of the row in row-slot `slot`, first head.
template <class C>
typename C::Value const* ref_key(LaneRef<C> const& ref, std::uint32_t slot) noexcept {
  return ref.k(slot / C::page) +
         static_cast<std::ptrdiff_t>(slot % C::page) * ref.geometry->row_elements;
}

/// Position of the row in row-slot `slot`.
template <class C>
int position_of(LaneRef<C> const& ref, std::uint32_t slot) noexcept {
  std::uint32_t const granule_slot = slot / C::page;
  std::uint32_t const granule = C::in_place ? granule_slot : ref.record(granule_slot).granule;
  return static_cast<int>(granule * C::page + slot % C::page);
}

/// @brief Takes the current query into the window sums of the exact rows, exactly: the new query's
/// contribution is added, that of the query that leaves the window is taken away.
///
/// @param logits octaves, `logits[h * stride + i]` of the i-th row of `list`
template <class C>
void slide_window(LaneJob<C> const& job, RowList const& list, float const* logits,
                  std::ptrdiff_t stride) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Lane<C> const& lane = *ref.lane;
  forget_queries(job, lane.rows - 1);  // observed twice: the later one counts
  if (lane.held == g.window_queries) {
    subtract_query(job, ring_entry(job, lane.held - 1), ring_position(job, lane.held - 1));
  }
  for (int i = 0; i < list.count; ++i) {
    std::uint32_t const slot =
        list.slots != nullptr ? list.slots[i] : static_cast<std::uint32_t>(i);
    std::uint32_t& sum = ref.sums(slot / C::page)[slot % C::page];
    for (int h = 0; h < g.lane_queries; ++h) {
      sum += fixed_dot(logits[h * stride + i], g.dot_limit);
    }
  }
  push_query(job, lane.rows - 1);
}

/// @brief Writes the window's mean |q.k| of each exact granule into its record.
template <class C>
void note_means(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    float best = 0.0F;
    for (int row = 0; row < ref.rows_of(granule); ++row) {
      int const position = static_cast<int>(granule) * g.page + row;
      best = std::max(best,
                      mean_dot(ref.sums(slot)[row], queries_seen(job, position), g.lane_queries));
    }
    ref.record(slot).value = from_float<BFloat16>(best).bits;
    if constexpr (C::has_state) {
      RowEvidence row = recall_evidence(job, granule);
      row.mean_abs_dot = best;
      job.context->scorer.update(ref.score(granule, slot), row);
    }
  });
}

/// @brief Masses of the exact rows become evidence, for scorers whose cache has no digest.
/// @param masses of the i-th row of `list`, units of 2^-30
template <class C>
void note_masses(LaneJob<C> const& job, RowList const& list, std::uint32_t const* masses) noexcept {
  LaneRef<C> const& ref = job.ref;
  for (int i = 0; i < list.count;) {
    std::uint32_t const slot =
        (list.slots != nullptr ? list.slots[i] : static_cast<std::uint32_t>(i)) / C::page;
    std::uint32_t const granule = C::in_place ? slot : ref.record(slot).granule;
    std::uint32_t mass = 0;
    for (int const end = i + ref.rows_of(granule); i < end; ++i) {
      mass += masses[i];
    }
    RowEvidence row = recall_evidence(job, granule);
    row.mass = static_cast<float>(mass) * mass_unit;
    ref.record(slot).value = from_float<BFloat16>(row.mass).bits;
    if constexpr (C::has_state) {
      job.context->scorer.update(ref.score(granule, slot), row);
    }
  }
}

/// Does attention's logits pass serve this composition's scorer?
template <class C>
inline constexpr bool wants_logits = C::needs_queries || (C::needs_mass && !C::has_digest);

/// @brief After attention: logits over the exact rows become evidence.
template <class C>
void observe_logits(LaneJob<C> const& job, RowList const& list, float* logits,
                    std::ptrdiff_t stride) noexcept {
  if constexpr (C::needs_queries) {
    slide_window(job, list, logits, stride);
    note_means(job);
  } else if constexpr (wants_logits<C>) {
    softmax_masses(logits, stride, job.geometry().lane_queries, list.count, job.scratch->masses(),
                   nullptr);
    note_entropy(job, job.scratch->masses(), list.count);
    note_masses(job, list, job.scratch->masses());
  } else if constexpr (C::has_state && !C::needs_mass) {
    job.ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      job.context->scorer.update(job.ref.score(granule, slot),
                                 recorded_evidence(job, granule, job.ref.record(slot)));
    });
  }
}

/// Logits of the listed rows under the scratch's queries, without attention.
template <class C>
void exact_logits(LaneJob<C> const& job, RowList const& list) noexcept {
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::ptrdiff_t const stride = job.scratch->stride();
  std::array<typename C::Value const*, tile_rows> keys{};
  for (int head = 0; head < g.heads_per_lane; ++head) {
    std::ptrdiff_t const query = static_cast<std::ptrdiff_t>(head) * g.group;
    for (int first = 0; first < list.count; first += tile_rows) {
      int const count = std::min(tile_rows, list.count - first);
      for (int i = 0; i < count; ++i) {
        auto const slot =
            list.slots != nullptr ? list.slots[first + i] : static_cast<std::uint32_t>(first + i);
        keys[static_cast<std::size_t>(i)] =
            ref_key(job.ref, slot) + static_cast<std::ptrdiff_t>(head) * dim;
      }
      row_logits(keys.data(), count, job.scratch->query() + query * dim, g.group, dim,
                 job.scratch->logits() + query * stride + first, stride);
    }
  }
}

/// @brief Evidence for a foreign attention kernel: from the queries alone, or with the
/// log-sum-exp that the kernel exports.
/// @param q the lane's queries, [lane_queries][head_dim]
/// @param lse [lane_queries], nats, or null
/// @param weights [lane_queries][list.count] in the order of `view()`, or null
template <class C>
void observe_lane(LaneJob<C> const& job, float const* q, float const* lse, float const* weights) {
  if constexpr (wants_logits<C> || (C::has_state && !C::needs_mass)) {
    load_queries(job, q);
    RowList const list = list_rows(job, weights != nullptr);
    if (C::needs_mass && (weights != nullptr || lse != nullptr)) {
      int const heads = job.geometry().lane_queries;
      if (weights == nullptr) {
        exact_logits(job, list);
      }
      for (int i = 0; i < list.count; ++i) {
        float mass = 0.0F;
        for (int h = 0; h < heads; ++h) {
          mass += weights != nullptr
                      ? weights[static_cast<std::ptrdiff_t>(h) * list.count + i]
                      : exp2(std::min(job.scratch->logits()[h * job.scratch->stride() + i] -
                                          lse[h] * 1.44269504088896340736F,
                                      0.0F));
        }
        mass = std::clamp(mass / static_cast<float>(heads), 0.0F, 1.0F);
        job.scratch->masses()[i] = static_cast<std::uint32_t>(mass * 0x1p30F);
      }
      note_masses(job, list, job.scratch->masses());
      return;
    }
    if constexpr (wants_logits<C>) {
      exact_logits(job, list);
    }
    observe_logits(job, list, job.scratch->logits(), job.scratch->stride());
  }
}

}  // namespace kvfreeze::host
