#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/scheduler/lane_shares.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <cstdint>

namespace kvfreeze {

/// @brief Three states by rank: the highest rows in full, the next quantised, the others gone from
/// memory.
///
/// Source: ARKV (arXiv 2603.08727). Of the rows that are kept each lane holds `exact` times its
/// share in full precision and the rest at the layout's first compact level, which is attended. How
/// many are kept follows from the byte cap: the water level scales the lane's ranks.
///
/// @complexity O(1)
/// @tparam Rises the tier gives rows back when a query needs them; off: as published, they only
/// sink
/// @tparam Shares of full precision, by lane: ARKV's OQ score by layer, measured on each prompt
/// (SequenceShares) or once (TableShares)
template <bool Rises = false, LaneShares Shares = EqualShares>
struct RankLadderScheduler {
  static constexpr bool rises = Rises;
  static constexpr bool by_rank = true;
  static constexpr bool needs_sequence_shares = requires { Shares::needs_sequence_shares; };

  Shares shares{};
  float kept = 1.0F;   ///< rows that are attended where no cap says otherwise, in (0, 1]
  float exact = 0.3F;  ///< of those, in full precision, in [0, 1]
  int stay = 4;        ///< steps that a row keeps its level unneeded, in [1, 2^15]
  int every = 4;       ///< a lane's rows sink every so many steps, in [1, 1024]; where they do not
                       ///< rise and a cap is set, when it binds

  static constexpr float slack_level = 0.01F;  ///< of the water, where ranks are not scaled

  KVFREEZE_HD constexpr float base_level() const noexcept { return slack_level; }

  KVFREEZE_HD constexpr int period() const noexcept { return every; }

  KVFREEZE_HD constexpr Selection recall(LaneFacts const&) const noexcept {
    return Selection::none();
  }

  KVFREEZE_HD constexpr Selection retain(LaneFacts const&) const noexcept {
    return Selection::wanted_within(stay);
  }

  KVFREEZE_HD Rungs rungs(LaneFacts const& lane) const noexcept {
    float const scale =
        lane.water_level > slack_level ? detail::quotient(slack_level, lane.water_level) : 1.0F;
    std::int32_t const open = detail::larger(lane.granules - lane.protected_granules, 0);
    Rungs rungs;
    rungs.attended = detail::share_of(kept * scale, open);
    float const full = detail::smaller(exact * shares.of(lane), 1.0F);
    rungs.above[0] = detail::share_of(full, rungs.attended);
    return rungs;
  }

  KVFREEZE_HD constexpr int sleep(int) const noexcept { return 0; }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::validate_policy(shares);
    detail::require_range("RankLadderScheduler::kept", kept, 0x1p-20, 1);
    detail::require_range("RankLadderScheduler::exact", exact, 0, 1);
    detail::require_range("RankLadderScheduler::stay", stay, 1, 1 << 15);
    detail::require_range("RankLadderScheduler::every", every, 1, 1024);
  }
};

static_assert(SchedulerPolicy<RankLadderScheduler<>> && SchedulerPolicy<RankLadderScheduler<true>>);

}  // namespace kvfreeze
