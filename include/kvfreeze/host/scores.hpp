#pragma once

/// @file
/// @brief What the scorer says of the exact granules of a lane, on the slow clock.

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/host/lag.hpp>
#include <kvfreeze/host/moments.hpp>
#include <kvfreeze/host/recall.hpp>

#include <algorithm>
#include <cstdint>

namespace kvfreeze::host {

/// Evidence of an exact granule as its record keeps it.
template <class C>
RowEvidence recorded_evidence(LaneJob<C> const& job, std::uint32_t granule,
                              SlotRecord const& record) noexcept {
  RowEvidence row;
  row.position = static_cast<std::int32_t>(granule) * C::page;
  row.age = job.ref.lane->rows - 1 - row.position;
  row.step = job.step();
  float const value = to_float(BFloat16{record.value});
  row.mass = C::needs_mass ? value : 0.0F;
  row.mean_abs_dot = C::needs_queries ? value : 0.0F;
  row.key_norm = C::Scorer::evidence == Evidence::key ? value : 0.0F;
  return row;
}

/// The scorer's score of an exact granule alone.
template <class C>
float score_granule(LaneJob<C> const& job, std::uint32_t slot, std::uint32_t granule) noexcept {
  RowEvidence row = recorded_evidence(job, granule, job.ref.record(slot));
  if constexpr (C::rates) {
    row.rating = rate_granule(job, slot, granule);
  }
  return job.context->scorer.score(job.ref.score(granule, slot), row);
}

/// @brief Calls f(granule, score) for each exact granule that may freeze; scores are averaged over
/// neighbours where the scorer asks for it. Uses the scratch's `logits()`.
template <class C, class F>
void score_open(LaneJob<C> const& job, F&& f) noexcept {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  int const width = kvfreeze::detail::pooled_rows(job.context->scorer);
  float* const alone = job.scratch->logits();
  if constexpr (C::lags) {
    rank_by_lag(job, alone);
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      if (ref.is_open(granule, open)) {
        RowEvidence row = recorded_evidence(job, granule, job.ref.record(slot));
        row.rating = alone[granule];
        f(granule, job.context->scorer.score(ref.score(granule, slot), row));
      }
    });
    return;
  }
  if (width > 1) {
    std::fill_n(alone, open.high, 0.0F);
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      if (static_cast<int>(granule) < open.high) {
        alone[granule] = score_granule(job, slot, granule);
      }
    });
  }
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if (ref.is_open(granule, open)) {
      f(granule, width > 1
                     ? kvfreeze::detail::pooled(alone, open.high, static_cast<int>(granule), width)
                     : score_granule(job, slot, granule));
    }
  });
}

}  // namespace kvfreeze::host
