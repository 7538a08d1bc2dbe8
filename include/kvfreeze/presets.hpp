#pragma once

/// @file
/// @brief Named caches: what the axes can do, a few lines each.

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/scheduler/keep_all_scheduler.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/sublinear_scheduler.hpp>
#include <kvfreeze/scheduler/uniform_scheduler.hpp>
#include <kvfreeze/scheduler/water_level_scheduler.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/scorer/mean_abs_dot_scorer.hpp>
#include <kvfreeze/scorer/recency_scorer.hpp>
#include <kvfreeze/tier/discard_tier.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>

namespace kvfreeze::presets {

/// Ours, the fidelity ladder: every row's 1-bit key code is asked by the current query, before
/// attention; what matters is attended through keys of 3 or 5 and values of 2, 4 or 8 bits. One
/// water level for all lanes meets the byte cap.
template <Element T = Half, TierPolicy Tier = HostTier>
using KvFreeze = KvFreezeCache<Layout<T, 1, Grouping::kv_head, LadderRows>,
                               InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<>, Tier,
                               MissedMassTrigger>;

/// Recall without compact rows: a row is exact or frozen, by the 4-bit key code of every row.
template <Element T = Half, TierPolicy Tier = HostTier>
using ExactRecall = KvFreezeCache<Layout<T>, InstantMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                                  Tier, MissedMassTrigger>;

/// Uniform quantisation (KIVI, arXiv 2402.02750): per-channel keys and per-row values of Bits bits
/// outside of sinks and window, all of them attended. The yardstick of quality per byte.
/// @tparam Bits 2, 3, 4 or 8; values of 3 bits have 4
template <int Bits, Element T = Half, TierPolicy Tier = HostTier>
using UniformQuantised = KvFreezeCache<
    Layout<T, 1, Grouping::kv_head, CompactRows<CompactLevel<Bits, Bits == 3 ? 4 : Bits>>>,
    InstantMassScorer<KeyCodes<Bits>>, UniformScheduler, Tier, NeverTrigger>;

/// ASR-KF-EGR (arXiv 2512.11221) with lazy thaw: a row whose timer expires comes back only if its
/// digest says so. Entropy-guided recovery included.
template <Element T = Half, TierPolicy Tier = HostTier>
using AsrKfEgr = KvFreezeCache<Layout<T>, MeanAbsDotScorer<KeyCodes<4>>,
                               SublinearScheduler<Thaw::lazy>, Tier, EntropyLadderTrigger>;

/// ASR-KF-EGR as published: every expired row comes back, whatever it is worth.
template <Element T = Half, TierPolicy Tier = HostTier>
using AsrKfEgrEager = KvFreezeCache<Layout<T>, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>,
                                    Tier, EntropyLadderTrigger>;

/// StreamingLLM (arXiv 2309.17453): sinks and the newest rows that the byte cap holds; the rest is
/// gone. Positions stay the original ones.
template <Element T = Half, TierPolicy Tier = DiscardTier>
using StreamingLlm =
    KvFreezeCache<Layout<T>, RecencyScorer, OverCapacityScheduler, Tier, NeverTrigger>;

/// No management: the yardstick.
template <Element T = Half, TierPolicy Tier = InPlaceTier>
using Plain = KvFreezeCache<Layout<T>, RecencyScorer, KeepAllScheduler, Tier, NeverTrigger>;

}  // namespace kvfreeze::presets
