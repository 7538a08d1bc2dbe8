#pragma once

#include <kvfreeze/host/attend.hpp>
#include <kvfreeze/host/ladder_step.hpp>

namespace kvfreeze::host {

/// @brief Before one token's attention: brings what the query needs.
template <class C>
void recall_token(LaneJob<C> const& job, float const* q) {
  if constexpr (C::uniform) {
    step_uniform(job, q, nullptr);
  } else if constexpr (C::has_levels) {
    step_ladder(job, q, nullptr);
  } else {
    recall_lane(job, q);
  }
}

/// @brief Recall, attention and evidence of one token.
template <class C>
void decode_token(LaneJob<C> const& job, float const* q, float* out) {
  if constexpr (C::uniform) {
    step_uniform(job, q, out);
  } else if constexpr (C::has_levels) {
    step_ladder(job, q, out);
  } else {
    recall_lane(job, q);
    attend_lane(job, out);
  }
}

/// @brief A token's attention over the compact rows alone, for kernels that know only exact ones.
/// @param out [lane_queries][head_dim]
/// @param lse [lane_queries], nats; minus infinity where no row is compact
template <class C>
void decode_compact(LaneJob<C> const& job, float const* q, float* out, float* lse) noexcept {
  if constexpr (C::has_levels) {
    attend_compact(job, q, out, lse);
  } else {
    Geometry const& g = job.geometry();
    std::fill_n(out, g.lane_queries * g.shape.head_dim, 0.0F);
    std::fill_n(lse, g.lane_queries, minus_infinity);
  }
}

}  // namespace kvfreeze::host
