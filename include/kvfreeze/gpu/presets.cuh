#pragma once

/// @file
/// @brief The host's named caches on the device. @see presets.hpp, which says what they are

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/kv_freeze_cache.cuh>
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
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>

namespace kvfreeze::gpu::presets {

/// The fidelity ladder.
/// @tparam MaxHeadDim the model's head_dim, where it is known when you compile, @see Layout
/// @tparam MaxGroup query heads for each KV head, likewise
template <Element T = Half, int MaxHeadDim = 0, int MaxGroup = 0, CacheTier Tier = PinnedTier>
using KvFreeze = KvFreezeCache<Layout<T, 1, Grouping::kv_head, LadderRows, MaxHeadDim, MaxGroup>,
                               InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<>,
                               MissedMassTrigger, Tier>;

/// Recall without compact rows.
/// @tparam MaxHeadDim, MaxGroup as in KvFreeze
template <Element T = Half, int MaxHeadDim = 0, int MaxGroup = 0, CacheTier Tier = PinnedTier>
using ExactRecall =
    KvFreezeCache<Layout<T, 1, Grouping::kv_head, CompactRows<>, MaxHeadDim, MaxGroup>,
                  InstantMassScorer<KeyCodes<4>>, WaterLevelScheduler<>, MissedMassTrigger, Tier>;

/// Uniform quantisation.
/// @tparam Bits 2, 3, 4 or 8; values of 3 bits have 4
/// @tparam MaxHeadDim as in KvFreeze
template <int Bits, Element T = Half, int MaxHeadDim = 0, CacheTier Tier = PinnedTier>
using UniformQuantised =
    KvFreezeCache<Layout<T, 1, Grouping::kv_head,
                         CompactRows<CompactLevel<Bits, Bits == 3 ? 4 : Bits>>, MaxHeadDim>,
                  InstantMassScorer<KeyCodes<Bits>>, UniformScheduler, NeverTrigger, Tier>;

/// ASR-KF-EGR with lazy thaw.
/// @tparam MaxHeadDim, MaxGroup as in KvFreeze
template <Element T = Half, int MaxHeadDim = 0, int MaxGroup = 0, CacheTier Tier = PinnedTier>
using AsrKfEgr = KvFreezeCache<Layout<T, 1, Grouping::kv_head, CompactRows<>, MaxHeadDim, MaxGroup>,
                               MeanAbsDotScorer<KeyCodes<4>>, SublinearScheduler<Thaw::lazy>,
                               EntropyLadderTrigger, Tier>;

/// ASR-KF-EGR as published.
/// @tparam MaxHeadDim as in KvFreeze
template <Element T = Half, int MaxHeadDim = 0, CacheTier Tier = PinnedTier>
using AsrKfEgrEager =
    KvFreezeCache<Layout<T, 1, Grouping::kv_head, CompactRows<>, MaxHeadDim>, MeanAbsDotScorer<>,
                  SublinearScheduler<Thaw::eager>, EntropyLadderTrigger, Tier>;

/// StreamingLLM. Without a byte cap OverCapacityScheduler::capacity says how many rows stay.
template <Element T = Half, CacheTier Tier = DiscardTier>
using StreamingLlm =
    KvFreezeCache<Layout<T>, RecencyScorer, OverCapacityScheduler, NeverTrigger, Tier>;

/// No management.
template <Element T = Half, CacheTier Tier = InPlaceTier>
using Plain = KvFreezeCache<Layout<T>, RecencyScorer, KeepAllScheduler, NeverTrigger, Tier>;

}  // namespace kvfreeze::gpu::presets
