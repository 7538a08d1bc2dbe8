#pragma once

/// @file
/// @brief What every scheduler has to obey: `kvfreeze::laws::scheduler(MyScheduler{})`.

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/policy_traits.hpp>

#include "random.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>

namespace kvfreeze::laws {

inline LaneFacts lane_facts(std::uint32_t seed) {
  Random random(seed);
  auto const upto = [&](std::int32_t n) {
    return static_cast<std::int32_t>(random() % (static_cast<std::uint32_t>(n) + 1U));
  };
  LaneFacts lane;
  lane.layer = upto(31);
  lane.head = upto(7);
  lane.page_tokens = 1 << (2 * upto(2));
  lane.granules = upto(1 << 16);
  lane.exact = upto(lane.granules);
  lane.protected_granules = upto(lane.exact);
  if (upto(1) == 1) {
    lane.allowed = upto(lane.granules);
    lane.water_level = static_cast<float>(upto(1000)) * 1e-3F;
  }
  lane.layers = 32;
  lane.heads = 8;
  lane.mean_entropy = static_cast<float>(upto(12));
  lane.entropy = static_cast<float>(upto(16));
  lane.layer_part = 8.0F * random.uniform();
  lane.sequence_share = 8.0F * random.uniform();
  lane.step = random();
  return lane;
}

inline void selection_is_in_range(Selection const& selection) {
  REQUIRE(selection.kind <= Selection::Kind::recent);
  REQUIRE(std::isfinite(selection.value));
  REQUIRE(selection.count >= 0);
  if (selection.kind == Selection::Kind::quantile || selection.kind == Selection::Kind::mass) {
    REQUIRE(selection.value >= 0.0F);
    REQUIRE(selection.value <= 1.0F);
  }
}

template <SchedulerPolicy Scheduler>
void selections_are_in_range(Scheduler const& scheduler) {
  for (std::uint32_t seed = 0; seed < 500; ++seed) {
    LaneFacts const lane = lane_facts(seed);
    selection_is_in_range(scheduler.recall(lane));
    selection_is_in_range(scheduler.retain(lane));
  }
}

/// Parts of a cap are finite and not negative; ranks are among the lane's rows and fall.
template <SchedulerPolicy Scheduler>
void shares_and_ranks_are_in_range(Scheduler const& scheduler) {
  for (std::uint32_t seed = 0; seed < 500; ++seed) {
    LaneFacts const lane = lane_facts(seed);
    if constexpr (detail::DealsShares<Scheduler>) {
      REQUIRE(std::isfinite(scheduler.share(lane)));
      REQUIRE(scheduler.share(lane) >= 0.0F);
    }
    if constexpr (detail::HasRungs<Scheduler>) {
      Rungs const rungs = scheduler.rungs(lane);
      std::int32_t most = lane.granules;
      for (std::int32_t const rank : {rungs.attended, rungs.above[0], rungs.above[1]}) {
        REQUIRE((rungs.attended < 0 || (rank >= 0 && rank <= most)));
        most = rank;
      }
    }
  }
}

/// Sleep is never negative and never shorter after more detections.
template <SchedulerPolicy Scheduler>
void sleep_grows_with_detections(Scheduler const& scheduler) {
  int previous = scheduler.sleep(0);
  int least = previous;
  bool grows = true;
  for (int detections = 1; detections <= 65535; ++detections) {
    int const sleep = scheduler.sleep(detections);
    grows = grows && sleep >= previous;
    least = std::min(least, sleep);
    previous = sleep;
  }
  REQUIRE(least >= 0);
  REQUIRE(grows);
}

/// A low verdict adds at most one, a high one never adds.
template <SchedulerPolicy Scheduler>
void counts_are_plausible(Scheduler const& scheduler) {
  for (int const previous : {0, 1, 2, 7, 100, 65534, 65535}) {
    for (int const steps : {0, 1, 100, 1 << 20}) {
      int const low = detail::recount(scheduler, previous, true, steps);
      int const high = detail::recount(scheduler, previous, false, steps);
      REQUIRE(low >= 0);
      REQUIRE(low <= previous + 1);
      REQUIRE(high >= 0);
      REQUIRE(high <= previous);
    }
  }
}

template <SchedulerPolicy Scheduler>
void scheduler(Scheduler const& policy) {
  REQUIRE_NOTHROW(detail::validate_policy(policy));
  shares_and_ranks_are_in_range(policy);
  REQUIRE(detail::slow_period(policy) >= 1);
  REQUIRE(detail::base_level(policy) >= 0.0F);
  REQUIRE(detail::base_level(policy) <= 1.0F);
  selections_are_in_range(policy);
  sleep_grows_with_detections(policy);
  counts_are_plausible(policy);
}

}  // namespace kvfreeze::laws
