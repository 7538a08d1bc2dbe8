#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/digest/partial_keys.hpp>
#include <kvfreeze/layout.hpp>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/keep_all_scheduler.hpp>
#include <kvfreeze/scheduler/lane_budget_scheduler.hpp>
#include <kvfreeze/scheduler/mass_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/recall_budget_scheduler.hpp>
#include <kvfreeze/scheduler/spared_layers_scheduler.hpp>
#include <kvfreeze/scheduler/sublinear_scheduler.hpp>
#include <kvfreeze/scheduler/water_level_scheduler.hpp>
#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/ema_mass_scorer.hpp>
#include <kvfreeze/scorer/expected_attention_scorer.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/scorer/key_difference_scorer.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/lag_scorer.hpp>
#include <kvfreeze/scorer/mean_abs_dot_scorer.hpp>
#include <kvfreeze/scorer/mean_variance_scorer.hpp>
#include <kvfreeze/scorer/recency_scorer.hpp>
#include <kvfreeze/scorer/value_key_ratio_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>
#include <kvfreeze/tier/discard_tier.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/trigger/any_of.hpp>
#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>
#include <kvfreeze/trigger/query_drift_trigger.hpp>

#include <cstdint>
#include <gpu/host_twin.hpp>
#include <memory>

namespace kvfreeze::gpu::test {

using DriftOrMissed = AnyOf<QueryDriftTrigger, MissedMassTrigger>;

template <class T>
struct LayoutOf {
  using type = T;
};

template <Element T>
struct LayoutOf<T> {
  using type = Layout<T>;
};

/// @brief Any scorer, remembering: the mean of what its score was, halved at every fourth update.
template <class Base>
struct Remembering : Base {
  struct State {
    float mean = 0.0F;
    std::uint32_t updates = 0;
  };

  KVFREEZE_HD void update(State& state, RowEvidence const& row) const noexcept {
    float const now = Base::score({}, row);
    state.mean = kvfreeze::detail::fused(0.25F, now - state.mean, state.mean);
    state.updates += 1;
  }

  KVFREEZE_HD float score(State const& state, RowEvidence const&) const noexcept {
    return state.updates % 4 == 0 ? 0.5F * state.mean : state.mean;
  }
};

/// A layout as it comes, or the one of single rows and a lane for each KV head with elements of T.
template <class T>
using layout_of_t = typename LayoutOf<T>::type;

/// A lane for all KV heads of a layer.
template <Element T>
using ByLayer = Layout<T, 1, Grouping::layer>;

/// Rows that are exact or frozen, elements or a layout of T; Scorer as it comes.
template <class T, class Scorer, class Tier, class Scheduler, class Trigger>
std::unique_ptr<HostTwin> make_rows_twin(Shape const&, Limits const&, Scheduler const&,
                                         Trigger const&, Scorer const& = {});

}  // namespace kvfreeze::gpu::test
