#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/host/append.hpp>
#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/query_window.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace kvfreeze::host {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Scales the lane's queries to octaves, into the scratch.
template <class C>
void load_queries(LaneJob<C> const& job, float const* q) noexcept {
  int const n = job.geometry().lane_queries * job.geometry().shape.head_dim;
  float const octaves = job.geometry().octaves;
  float* const out = job.scratch->query();
  for (int i = 0; i < n; ++i) {
    out[i] = q[i] * octaves;
  }
}

/// Logits of the rows whose keys are in no digest yet: exact ones.
template <class C>
void estimate_tail(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::ptrdiff_t const stride = job.scratch->stride();
  int const begin = ref.tail_begin();
  int const first = begin * g.page;
  int const rows = ref.lane->rows - first;
  std::array<typename C::Value const*, C::tail_granules * C::page> keys{};
  for (int head = 0; head < g.heads_per_lane; ++head) {
    float* const logits =
        job.scratch->logits() + static_cast<std::ptrdiff_t>(head) * g.group * stride + first;
    typename C::Value const* any = nullptr;
    for (int i = 0; i < rows; ++i) {
      std::uint32_t const slot = tail_slot(ref, static_cast<std::uint32_t>(begin + i / g.page));
      auto*& key = keys[static_cast<std::size_t>(i)];
      key = slot == no_slot
                ? nullptr
                : ref.k(slot) + static_cast<std::ptrdiff_t>(i % g.page) * g.row_elements +
                      static_cast<std::ptrdiff_t>(head) * dim;
      any = key != nullptr ? key : any;
    }
    if (any == nullptr) {
      continue;
    }
    std::array<typename C::Value const*, C::tail_granules * C::page> present = keys;
    std::replace(present.begin(), present.begin() + rows,
                 static_cast<typename C::Value const*>(nullptr), any);
    row_logits(present.data(), rows,
               job.scratch->query() + static_cast<std::ptrdiff_t>(head) * g.group * dim, g.group,
               dim, logits, stride);
    for (int i = 0; i < rows; ++i) {
      for (int h = 0; keys[static_cast<std::size_t>(i)] == nullptr && h < g.group; ++h) {
        logits[h * stride + i] = minus_infinity;  // evicted
      }
    }
  }
}

/// @brief Logits of all awake rows under the scratch's queries: by digest where a row has one, by
/// its key where it has none yet. Rows that are asleep or gone get minus infinity.
template <class C>
void estimate_logits(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  float* const logits = job.scratch->logits();
  std::ptrdiff_t const stride = job.scratch->stride();
  int const dim = g.shape.head_dim;
  constexpr int group_rows = C::Digest::group_rows;
  constexpr int group_granules = group_rows / C::page;
  for (int group = 0; group < ref.lane->groups; ++group) {
    std::uint32_t const first = static_cast<std::uint32_t>(group) * group_granules;
    int awake = group_granules;
    if constexpr (C::sleeps || C::discards) {
      awake = 0;
      for (std::uint32_t i = first; i < first + group_granules; ++i) {
        Fidelity const f = ref.fidelity(i);
        awake += f == Fidelity::exact || f == Fidelity::frozen ? 1 : 0;
      }
    }
    float* const at = logits + static_cast<std::ptrdiff_t>(group) * group_rows;
    if (awake > 0) {
      for (int head = 0; head < g.heads_per_lane; ++head) {
        DigestQuery const query{
            job.scratch->query() + static_cast<std::ptrdiff_t>(head) * g.group * dim, g.group, dim};
        C::Digest::scan(query, ref.digest(group, head),
                        at + static_cast<std::ptrdiff_t>(head) * g.group * stride, stride);
      }
      ref.lane->touched += g.digest_group_bytes;
    }
    if (awake < group_granules) {
      for (int i = 0; i < group_granules; ++i) {
        Fidelity const f = ref.fidelity(first + static_cast<std::uint32_t>(i));
        if (f == Fidelity::exact || f == Fidelity::frozen) {
          continue;
        }
        for (int h = 0; h < g.lane_queries; ++h) {
          std::fill_n(at + h * stride + static_cast<std::ptrdiff_t>(i) * g.page, g.page,
                      minus_infinity);
        }
      }
    }
  }
  estimate_tail(job);
}

/// @brief What recall selects by, as integers: masses in units of 2^-30, or |q.k| of the current
/// query in units of 2^-12. By granule; valid after `estimate_scores`.
template <class C>
std::uint32_t* recall_scores(LaneJob<C> const& job) noexcept {
  return C::needs_queries ? job.scratch->scores() : job.scratch->masses();
}

/// A recall score in its own unit: mass of 1, or nats.
template <class C>
float recall_score(LaneJob<C> const& job, std::uint32_t granule) noexcept {
  return static_cast<float>(recall_scores(job)[granule]) *
         (C::needs_queries ? 1.0F / 4096.0F : mass_unit);
}

/// A score of a scheduler's, in recall's units.
template <class C>
std::uint32_t recall_threshold(float score) noexcept {
  using kvfreeze::detail::dots_per_nat;
  using kvfreeze::detail::masses_per_one;
  return kvfreeze::detail::score_threshold(score, C::needs_queries ? dots_per_nat : masses_per_one);
}

/// @brief Instant evidence of each granule from estimated logits, which are used up: masses
/// (always, for the missed mass) and the scores that recall selects by.
template <class C>
void estimate_scores(LaneJob<C> const& job) noexcept {
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  int const rows = job.ref.lane->rows;
  int const granules = job.ref.granules();
  if constexpr (C::needs_queries) {
    // |q.k| under the current query alone, mean over heads, largest row of the granule.
    std::uint32_t* const scores = scratch.scores();
    auto const heads = static_cast<std::uint32_t>(g.lane_queries);
    for (int granule = 0; granule < granules; ++granule) {
      std::uint32_t best = 0;
      for (int row = granule * g.page; row < std::min(rows, (granule + 1) * g.page); ++row) {
        std::uint32_t sum = 0;
        for (int h = 0; h < g.lane_queries; ++h) {
          float const logit = scratch.logits()[h * scratch.stride() + row];
          sum += logit == minus_infinity ? 0U : fixed_dot(logit, g.dot_limit);
        }
        best = std::max(best, sum / heads);
      }
      scores[granule] = best;
    }
  }
  softmax_masses(scratch.logits(), scratch.stride(), g.lane_queries, rows, scratch.masses(),
                 nullptr);
  note_entropy(job, scratch.masses(), rows);
  if constexpr (C::page > 1) {
    std::uint32_t* const mass = scratch.masses();
    for (int granule = 0; granule < granules; ++granule) {
      std::uint32_t sum = 0;
      for (int row = granule * g.page; row < std::min(rows, (granule + 1) * g.page); ++row) {
        sum += mass[row];
      }
      mass[granule] = sum;  // granule <= row: already read
    }
  }
}

}  // namespace kvfreeze::host
