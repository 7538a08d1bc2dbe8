#pragma once

#include <kvfreeze/host/composition.hpp>
#include <kvfreeze/tier/host_tier.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace kvfreeze::gpu {

class PinnedTier;

template <TierPolicy Lower>
class SpillingTier;

namespace detail {

template <class T>
inline constexpr bool is_spilling = false;

template <TierPolicy Lower>
inline constexpr bool is_spilling<SpillingTier<Lower>> = true;

/// Of the host's tiers the one that a device's stands for.
template <class T>
using host_tier_t = std::conditional_t<std::same_as<T, PinnedTier> || is_spilling<T>, HostTier, T>;

}  // namespace detail

/// @brief Where a cache on the device has the rows that are not active: in pinned memory of the
/// host, there and in a lower tier, in place, or nowhere. The latter two are the host's own.
template <class T>
concept CacheTier = std::same_as<T, PinnedTier> || detail::is_spilling<T> ||
                    (TierPolicy<T> && kvfreeze::detail::tier_kind<T>() != TierKind::holding);

/// @brief The axes of a cache on the device and what follows from them, as on the host.
template <LayoutPolicy L, ScorerPolicy S, SchedulerPolicy D, TriggerPolicy R,
          CacheTier T = PinnedTier>
struct Composition : host::Composition<L, S, D, detail::host_tier_t<T>, R> {
  using Base = host::Composition<L, S, D, detail::host_tier_t<T>, R>;

  using DeviceTier = T;

  /// Rows of a granule. Where rows may be compact each is stored by itself, whatever PageTokens is:
  /// slots, codes and states are of rows, and `span` of them side by side have one verdict.
  static constexpr int page = Base::has_levels ? 1 : Base::page;

  /// Granules that have one verdict: PageTokens rows.
  static constexpr int span = Base::page / page;

  /// Granules whose keys are not in the digest yet: they stay exact.
  static constexpr int tail_granules = Base::has_digest ? Base::Digest::group_rows / page : 1;

  /// Does a lane hold the rows of all KV heads of its layer?
  static constexpr bool by_layer = L::grouping == Grouping::layer;

  /// Are all rows of a lane ranked, so that the ladder knows what to do with each?
  static constexpr bool ranks = Base::has_levels && !Base::uniform;

  /// Are the cuts of the ladder ranks of rows, and not masses?
  static constexpr bool by_rank = ranks && kvfreeze::detail::by_rank<D>();

  /// Are rows written through to memory of the host?
  static constexpr bool stores = !Base::in_place && !Base::discards;

  /// May rows that are written through be elsewhere when a step wants them?
  static constexpr bool spills = detail::is_spilling<T>;

  /// Is a row exact or frozen, and the current query asks the digests which it shall be?
  static constexpr bool recalls = Base::has_digest && !Base::has_levels;

  /// The same by masses, on which a prompt's last queries have votes.
  static constexpr bool recalls_by_mass = recalls && !Base::needs_queries;

  /// Without digests masses are those of the rows that attention saw, noted behind it.
  static constexpr bool notes_masses = Base::needs_mass && !Base::has_digest;

  /// Does the scorer go by the norms of keys?
  static constexpr bool needs_norms = S::evidence == Evidence::key;

  /// Does a scorer remember what it was told of exact rows, though not of their logits?
  static constexpr bool notes_rows = Base::has_state && !Base::needs_mass && !Base::needs_queries;

  /// Are scores averaged over neighbours before rows are ranked?
  static constexpr bool pools = requires(S const& scorer) { scorer.pooled_rows(); };

  /// Is there a list of the scores of rows alone: because neighbours ask for them, because they are
  /// dear, or because rows of a chunk are ranked together?
  static constexpr bool lists_scores = pools || Base::rates || Base::lags;

  /// Are the counters of sleeping rows rolled back with a rewind?
  static constexpr bool saves_counts = Base::sleeps && Base::rewalks;

  /// Is a step's report written when all its launches are over? Else its numbers are known before.
  static constexpr bool reports_last = Base::sleeps || Base::rewalks;

  // The device cannot call the host's constexpr functions, but reads what they gave.

  /// Bits of a V code of a compact level.
  template <int Level>
  static constexpr int value_bits = L::compact_rows::value_bits[static_cast<std::size_t>(Level)];

  /// Lower bits of a key in a compact level's pool.
  template <int Level>
  static constexpr int key_residual = Base::residual_bits(static_cast<std::size_t>(Level));
};

}  // namespace kvfreeze::gpu
