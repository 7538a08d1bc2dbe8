#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/policy_traits.hpp>

#include <type_traits>

namespace kvfreeze::host {

/// The five axes of a cache and what follows from them at compile time; every stage of the host
/// backend is a template over one of these.
template <LayoutPolicy L, ScorerPolicy S, SchedulerPolicy D, TierPolicy T, TriggerPolicy R>
struct Composition {
  using Layout = L;
  using Scorer = S;
  using Scheduler = D;
  using Tier = T;
  using Trigger = R;
  using Digest = kvfreeze::detail::digest_t<S>;
  using Value = typename L::element_type;

  static constexpr int page = L::page_tokens;
  static constexpr int max_head_dim = L::max_head_dim;
  static constexpr int max_group = L::max_group;
  static constexpr bool has_digest = Digest::group_rows > 0;
  static constexpr bool has_state = !std::is_empty_v<typename S::State>;
  static constexpr bool sleeps = kvfreeze::detail::has_sleep<D>();
  static constexpr bool needs_mass = S::evidence == Evidence::mass;
  static constexpr bool needs_queries = S::evidence == Evidence::queries;
  static constexpr bool rates = S::evidence == Evidence::rows;
  static constexpr bool lags = S::evidence == Evidence::lag;
  static constexpr bool in_place = kvfreeze::detail::tier_kind<T>() == TierKind::in_place;
  static constexpr bool discards = kvfreeze::detail::tier_kind<T>() == TierKind::discarding;
  /// Scores lie with the exact rows where rows that are gone never come back: those cost a byte.
  static constexpr bool scores_in_slots = has_state && discards;
  static constexpr bool needs_cosine = kvfreeze::detail::needs_query_cosine<R>();
  static constexpr bool needs_entropy = kvfreeze::detail::needs_entropy<D>();
  static constexpr bool needs_layer_parts = kvfreeze::detail::needs_layer_parts<D>();
  static constexpr bool needs_sequence_shares = kvfreeze::detail::needs_sequence_shares<D>();
  static constexpr bool rises = kvfreeze::detail::rises<D>();
  static constexpr bool rewalks = kvfreeze::detail::highest_recovery<R>() == Recovery::rewalk;

  using CompactRows = typename L::compact_rows;

  /// Compact levels, each with a pool of its own; 0: rows are exact or not resident.
  static constexpr int levels = CompactRows::levels;
  static constexpr bool has_levels = levels > 0;
  static constexpr bool uniform = kvfreeze::detail::is_uniform<D>();

  /// Key bits of a level that its pool holds: those that the digest of every row lacks.
  static constexpr int residual_bits(std::size_t level) noexcept {
    return CompactRows::key_bits[level] - kvfreeze::detail::digest_bits<Digest>();
  }

  /// Do pools hold key bits, so that queries are folded for them?
  static constexpr bool refines = has_levels && residual_bits(CompactRows::slots - 1) > 0;

  /// Does the digest spend its bits where the queries need them?
  static constexpr bool weighs = kvfreeze::detail::WeighsChannels<Digest>;

  /// Granules whose keys are not in the digest yet: they stay exact.
  static constexpr int tail_granules = has_digest ? Digest::group_rows / page : 1;

  static_assert(Digest::group_rows % page == 0,
                "kvfreeze: the digest's group must be a multiple of PageTokens");
  static_assert(
      !needs_layer_parts ||
          (kvfreeze::detail::DealsShares<D> && kvfreeze::detail::StatesItsBudget<D> && !has_levels),
      "kvfreeze: parts of a layer's budget need a scheduler with share() and budget(), and "
      "no compact rows");
  static_assert(!rates || kvfreeze::detail::RatesRows<S>,
                "kvfreeze: a scorer of Evidence::rows needs rate(RowContent, LaneMoments)");
  static_assert(!needs_entropy || (needs_mass && !has_levels),
                "kvfreeze: shares by entropy need a scorer of masses, and no compact rows");
  static_assert(!has_levels || kvfreeze::detail::HasRungs<D>,
                "kvfreeze: compact rows need a scheduler with rungs(): LadderScheduler");
  static_assert(!has_levels || (has_digest && needs_mass && !has_state),
                "kvfreeze: compact rows need a scorer of masses with a digest and no memory: "
                "InstantMassScorer");
  static_assert(!has_levels || residual_bits(0) >= 0,
                "kvfreeze: compact rows cannot have fewer key bits than the digest");
  static_assert(!refines || (CompactRows::key_bits[CompactRows::slots - 1] <=
                             kvfreeze::detail::digest_total_bits<Digest>()),
                "kvfreeze: compact rows with more key bits than the digest need NestedKeyCodes");
  static_assert(!has_levels || (!in_place && !discards),
                "kvfreeze: compact rows need a tier that holds their exact rows");
};

}  // namespace kvfreeze::host
