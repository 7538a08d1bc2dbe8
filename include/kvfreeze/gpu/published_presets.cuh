#pragma once

/// @file
/// @brief Published cache systems on the device. @see published_presets.hpp, which says what they
/// are
///
/// Without a byte cap their schedulers need a capacity, a count or a fraction.

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/digest/partial_keys.hpp>
#include <kvfreeze/gpu/kv_freeze_cache.cuh>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/head_bits_scheduler.hpp>
#include <kvfreeze/scheduler/lane_budget_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/recall_budget_scheduler.hpp>
#include <kvfreeze/scheduler/spared_layers_scheduler.hpp>
#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/expected_attention_scorer.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/scorer/key_difference_scorer.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/lag_scorer.hpp>
#include <kvfreeze/scorer/mean_variance_scorer.hpp>
#include <kvfreeze/scorer/value_key_ratio_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>
#include <kvfreeze/tier/discard_tier.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>

namespace kvfreeze::gpu::presets {

/// An eviction rule: a scorer's highest rows stay, the others are gone.
template <ScorerPolicy Scorer, SchedulerPolicy Scheduler = OverCapacityScheduler,
          LayoutPolicy L = Layout<>>
using Evicting = KvFreezeCache<L, Scorer, Scheduler, NeverTrigger, DiscardTier>;

/// The same rule with a tier: half of its budget goes to rows that the current query asks for.
template <ScorerPolicy Scorer, LaneShares Shares = EqualShares, LayoutPolicy L = Layout<>,
          CacheTier Tier = PinnedTier>
using Recalled = KvFreezeCache<L, Scorer, RecallBudgetScheduler<Shares>, NeverTrigger, Tier>;

/// H2O.
template <Element T = Half>
using H2o = Evicting<CumulativeMassScorer<>, OverCapacityScheduler, Layout<T>>;

/// TOVA.
template <Element T = Half>
using Tova = Evicting<InstantMassScorer<>, OverCapacityScheduler, Layout<T, 1, Grouping::layer>>;

/// SnapKV.
template <Element T = Half>
using SnapKv = Evicting<WindowMassScorer<>, OverCapacityScheduler, Layout<T>>;

/// PyramidKV.
template <Element T = Half>
using PyramidKv = Evicting<WindowMassScorer<>, LaneBudgetScheduler<PyramidShares>, Layout<T>>;

/// AdaKV.
template <Element T = Half>
using AdaKv = Evicting<WindowMassScorer<>, LaneBudgetScheduler<HeadSplitShares>, Layout<T>>;

/// ARKV: three states by rank, from which rows only sink.
/// @tparam MaxHeadDim the model's head_dim, where it is known when you compile, @see Layout
/// @tparam MaxGroup query heads for each KV head, likewise
template <Element T = Half, LaneShares Shares = SequenceShares, int MaxHeadDim = 0,
          int MaxGroup = 0, bool Rises = false>
using Arkv = KvFreezeCache<
    Layout<T, 1, Grouping::kv_head, CompactRows<CompactLevel<5, 8>>, MaxHeadDim, MaxGroup>,
    InstantMassScorer<NestedKeyCodes<1, 5>>, RankLadderScheduler<Rises, Shares>, NeverTrigger>;

/// The same, and rows come back from the tier, and rise, when a query needs them.
template <Element T = Half, LaneShares Shares = SequenceShares, int MaxHeadDim = 0,
          int MaxGroup = 0>
using ArkvRecalled = Arkv<T, Shares, MaxHeadDim, MaxGroup, true>;

/// Bits by head.
/// @tparam MaxHeadDim, MaxGroup as in Arkv
template <Element T = Half, int MaxHeadDim = 0, int MaxGroup = 0>
using HeadBits =
    KvFreezeCache<Layout<T, 1, Grouping::kv_head,
                         CompactRows<CompactLevel<2, 2>, CompactLevel<4, 4>, CompactLevel<6, 8>>,
                         MaxHeadDim, MaxGroup>,
                  InstantMassScorer<NestedKeyCodes<2, 6>>, HeadBitsScheduler<>, NeverTrigger>;

/// ARKV as its code does it.
template <Element T = Half, LaneShares Shares = SequenceShares>
using ArkvAsShipped = Evicting<MeanVarianceScorer<>, LaneBudgetScheduler<Shares>, Layout<T>>;

/// The L2-norm rule.
template <Element T = Half>
using KeyNorm = Evicting<KeyNormScorer<>, OverCapacityScheduler, Layout<T>>;

/// KeyDiff.
template <Element T = Half>
using KeyDiff = Evicting<KeyDifferenceScorer<>, OverCapacityScheduler, Layout<T>>;

/// LagKV.
template <Element T = Half>
using LagKv = Evicting<LagScorer<>, OverCapacityScheduler, Layout<T>>;

/// ExpectedAttention.
template <Element T = Half>
using ExpectedAttention = Evicting<ExpectedAttentionScorer<>, OverCapacityScheduler, Layout<T>>;

/// Entropy-adaptive budgets of the heads, calibrated.
template <Element T = Half>
using EntropyCalibrated =
    Evicting<WindowMassScorer<>, LaneBudgetScheduler<TableShares<>>, Layout<T>>;

/// The same with entropies that are measured while the model runs.
template <Element T = Half>
using EntropyOnline = Evicting<WindowMassScorer<>, LaneBudgetScheduler<EntropyShares>, Layout<T>>;

/// The same as its paper measured it: an oracle.
template <Element T = Half>
using EntropyOracle =
    KvFreezeCache<Layout<T>, InstantMassScorer<ExactKeys>, RecallBudgetScheduler<TableShares<>>,
                  NeverTrigger, InPlaceTier>;

/// PagedEviction.
template <Element T = Half>
using PagedEviction = Evicting<ValueKeyRatioScorer<>, OverCapacityScheduler, Layout<T, 16>>;

/// Quest.
template <Element T = Half, CacheTier Tier = InPlaceTier>
using Quest = KvFreezeCache<Layout<T, 16>, InstantMassScorer<BoxDigest<16>>, SparedLayersScheduler,
                            NeverTrigger, Tier>;

/// ArkVale.
template <Element T = Half, CacheTier Tier = PinnedTier>
using ArkVale = KvFreezeCache<Layout<T, 16>, InstantMassScorer<CuboidDigest<16>>,
                              SparedLayersScheduler, NeverTrigger, Tier>;

/// After InfiniGen.
template <Element T = Half, CacheTier Tier = PinnedTier>
using PartialRecall = KvFreezeCache<Layout<T>, InstantMassScorer<PartialKeys<20>>,
                                    FixedBudgetScheduler, NeverTrigger, Tier>;

}  // namespace kvfreeze::gpu::presets
