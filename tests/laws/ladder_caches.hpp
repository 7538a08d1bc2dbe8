#pragma once

/// @file
/// @brief Compositions with compact rows that the laws and the random operations run on.

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>

namespace kvfreeze::laws {

/// Levels that share the digest's codes.
template <Element T = Half, int Page = 1, Grouping Lanes = Grouping::kv_head,
          TierPolicy Tier = HostTier, TriggerPolicy Trigger = MissedMassTrigger>
using FlatLadder =
    KvFreezeCache<Layout<T, Page, Lanes, CompactRows<CompactLevel<4, 2>, CompactLevel<4, 4>>>,
                  InstantMassScorer<KeyCodes<4>>, LadderScheduler<>, Tier, Trigger>;

/// None, three compact ones and exact.
template <Element T = Half, int Page = 1, Grouping Lanes = Grouping::kv_head,
          TierPolicy Tier = HostTier, TriggerPolicy Trigger = MissedMassTrigger>
using FourLevels = KvFreezeCache<
    Layout<T, Page, Lanes, CompactRows<CompactLevel<2, 2>, CompactLevel<4, 4>, CompactLevel<6, 8>>>,
    InstantMassScorer<NestedKeyCodes<2, 6>>, LadderScheduler<>, Tier, Trigger>;

/// Codes so fine that attention is nearly what it was.
template <Element T = Half, int Page = 1, Grouping Lanes = Grouping::kv_head,
          TierPolicy Tier = HostTier, TriggerPolicy Trigger = MissedMassTrigger>
using FineLadder =
    KvFreezeCache<Layout<T, Page, Lanes, CompactRows<CompactLevel<8, 8>>>,
                  InstantMassScorer<NestedKeyCodes<4, 8>>, LadderScheduler<>, Tier, Trigger>;

}  // namespace kvfreeze::laws
