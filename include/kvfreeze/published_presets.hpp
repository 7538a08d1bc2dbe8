#pragma once

/// @file
/// @brief Published cache systems as compositions, for comparison. docs/systems.md says what each
/// lacks of its original.
///
/// Eviction rules take what the byte cap allows unless their scheduler is given a budget. In each,
/// DiscardTier is the published behaviour; `Recalled<...>` is the same scorer with a tier and
/// recall.

#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/digest/partial_keys.hpp>
#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/head_bits_scheduler.hpp>
#include <kvfreeze/scheduler/lane_budget_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/recall_budget_scheduler.hpp>
#include <kvfreeze/scheduler/spared_layers_scheduler.hpp>
#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/expected_attention_scorer.hpp>
#include <kvfreeze/scorer/key_difference_scorer.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/lag_scorer.hpp>
#include <kvfreeze/scorer/mean_variance_scorer.hpp>
#include <kvfreeze/scorer/value_key_ratio_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>
#include <kvfreeze/tier/discard_tier.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/trigger/never_trigger.hpp>

namespace kvfreeze::presets {

/// An eviction rule: a scorer's highest rows stay, as many as fit, the others are gone.
template <ScorerPolicy Scorer, SchedulerPolicy Scheduler = OverCapacityScheduler,
          LayoutPolicy L = Layout<>>
using Evicting = KvFreezeCache<L, Scorer, Scheduler, DiscardTier, NeverTrigger>;

/// The same rule with a tier: half of its budget goes to rows that the current query asks for.
template <ScorerPolicy Scorer, LaneShares Shares = EqualShares, LayoutPolicy L = Layout<>,
          TierPolicy Tier = HostTier>
using Recalled = KvFreezeCache<L, Scorer, RecallBudgetScheduler<Shares>, Tier, NeverTrigger>;

/// H2O (arXiv 2306.14048): mass summed over all queries.
template <Element T = Half>
using H2o = Evicting<CumulativeMassScorer<>, OverCapacityScheduler, Layout<T>>;

/// TOVA (arXiv 2401.06104): the last query's mass, mean over all heads of a layer.
template <Element T = Half>
using Tova = Evicting<InstantMassScorer<>, OverCapacityScheduler, Layout<T, 1, Grouping::layer>>;

/// SnapKV (arXiv 2404.14469): mass of the last queries, averaged over neighbours. Give the scorer
/// `pooled = 5`; while decoding its window goes on.
template <Element T = Half>
using SnapKv = Evicting<WindowMassScorer<>, OverCapacityScheduler, Layout<T>>;

/// PyramidKV (arXiv 2406.02069): SnapKV with larger budgets for lower layers.
template <Element T = Half>
using PyramidKv = Evicting<WindowMassScorer<>, LaneBudgetScheduler<PyramidShares>, Layout<T>>;

/// AdaKV (arXiv 2407.11550): SnapKV whose heads compete for their layer's budget.
template <Element T = Half>
using AdaKv = Evicting<WindowMassScorer<>, LaneBudgetScheduler<HeadSplitShares>, Layout<T>>;

/// ARKV (arXiv 2603.08727) as its paper has it: exact, quantised and attended, gone. Keys of 5 bits
/// and values of 8 stand for its fp8, and the current query's mass for its score; rows that are
/// gone keep a 1-bit key code. Its layer score: give each sequence the OqScore ratios of its prompt
/// by set_shares(), and the scheduler `exact = 1`.
template <Element T = Half, TierPolicy Tier = HostTier, LaneShares Shares = SequenceShares>
using Arkv = KvFreezeCache<Layout<T, 1, Grouping::kv_head, CompactRows<CompactLevel<5, 8>>>,
                           InstantMassScorer<NestedKeyCodes<1, 5>>,
                           RankLadderScheduler<false, Shares>, Tier, NeverTrigger>;

/// The same, and rows come back from the tier, and rise, when a query needs them.
template <Element T = Half, TierPolicy Tier = HostTier, LaneShares Shares = SequenceShares>
using ArkvRecalled = KvFreezeCache<Layout<T, 1, Grouping::kv_head, CompactRows<CompactLevel<5, 8>>>,
                                   InstantMassScorer<NestedKeyCodes<1, 5>>,
                                   RankLadderScheduler<true, Shares>, Tier, NeverTrigger>;

/// ARKV as its code does it: the quantised rows are lost at the next token, so that it evicts, down
/// to three quarters once its budget is full, by mean and variance of the masses.
template <Element T = Half, LaneShares Shares = SequenceShares>
using ArkvAsShipped = Evicting<MeanVarianceScorer<>, LaneBudgetScheduler<Shares>, Layout<T>>;

/// The L2-norm rule (arXiv 2406.11430; kvpress' Knorm).
template <Element T = Half>
using KeyNorm = Evicting<KeyNormScorer<>, OverCapacityScheduler, Layout<T>>;

/// KeyDiff (arXiv 2504.15364).
template <Element T = Half>
using KeyDiff = Evicting<KeyDifferenceScorer<>, OverCapacityScheduler, Layout<T>>;

/// ExpectedAttention (kvpress).
template <Element T = Half>
using ExpectedAttention = Evicting<ExpectedAttentionScorer<>, OverCapacityScheduler, Layout<T>>;

/// PagedEviction (arXiv 2509.04377): whole pages of 16 rows by ‖v‖ / ‖k‖.
template <Element T = Half>
using PagedEviction = Evicting<ValueKeyRatioScorer<>, OverCapacityScheduler, Layout<T, 16>>;

/// Entropy-adaptive budgets of the heads, calibrated (SCJedi/entropy-adaptive-kv-cache), with an
/// online choice of rows: the mass of the recent queries.
template <Element T = Half>
using EntropyCalibrated =
    Evicting<WindowMassScorer<>, LaneBudgetScheduler<TableShares<>>, Layout<T>>;

/// The same with entropies that are measured while the model runs.
template <Element T = Half>
using EntropyOnline = Evicting<WindowMassScorer<>, LaneBudgetScheduler<EntropyShares>, Layout<T>>;

/// The same as its paper measured it: an oracle. Each query attends to its own largest rows, all
/// rows stay where they are, and their keys are read for it.
template <Element T = Half>
using EntropyOracle =
    KvFreezeCache<Layout<T>, InstantMassScorer<ExactKeys>, RecallBudgetScheduler<TableShares<>>,
                  InPlaceTier, NeverTrigger>;

/// The same work's bits by head: every row quantised, with more bits for heads whose attention is
/// sharp.
template <Element T = Half, TierPolicy Tier = HostTier>
using HeadBits =
    KvFreezeCache<Layout<T, 1, Grouping::kv_head,
                         CompactRows<CompactLevel<2, 2>, CompactLevel<4, 4>, CompactLevel<6, 8>>>,
                  InstantMassScorer<NestedKeyCodes<2, 6>>, HeadBitsScheduler<>, Tier, NeverTrigger>;

/// LagKV (arXiv 2504.04704): each chunk of rows is judged by the ranges of the next.
template <Element T = Half>
using LagKv = Evicting<LagScorer<>, OverCapacityScheduler, Layout<T>>;

/// Quest (ICML 2024): pages of 16 rows by the bound of their box; nothing leaves memory, reads are
/// saved. Give the scheduler a fraction. The first two layers read everything.
template <Element T = Half, TierPolicy Tier = InPlaceTier>
using Quest = KvFreezeCache<Layout<T, 16>, InstantMassScorer<BoxDigest<16>>, SparedLayersScheduler,
                            Tier, NeverTrigger>;

/// ArkVale (NeurIPS 2024) with pages of 16 rows: those with the largest estimate come back before
/// attention. The first two layers keep everything.
template <Element T = Half, TierPolicy Tier = HostTier>
using ArkVale = KvFreezeCache<Layout<T, 16>, InstantMassScorer<CuboidDigest<16>>,
                              SparedLayersScheduler, Tier, NeverTrigger>;

/// After InfiniGen (OSDI 2024): rows by a fifth of their keys' channels.
template <Element T = Half, TierPolicy Tier = HostTier>
using PartialRecall = KvFreezeCache<Layout<T>, InstantMassScorer<PartialKeys<20>>,
                                    FixedBudgetScheduler, Tier, NeverTrigger>;

}  // namespace kvfreeze::presets
