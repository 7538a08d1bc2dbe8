#pragma once

#include <kvfreeze/detail/selection_rules.hpp>
#include <kvfreeze/host/estimate.hpp>
#include <kvfreeze/host/kernels/histogram.hpp>

#include <algorithm>
#include <cstring>
#include <limits>

namespace kvfreeze::host {

/// What the scheduler is told of a lane.
template <class C>
LaneFacts lane_facts(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  LaneFacts facts;
  facts.layer = job.layer;
  facts.head = job.head;
  facts.layers = ref.geometry->shape.layers;
  facts.heads = ref.geometry->lanes_per_layer;
  facts.page_tokens = C::page;
  facts.granules = ref.granules();
  facts.exact = ref.lane->exact;
  facts.protected_granules = facts.granules - (open.high - open.low);
  if (!job.sequence->pins.empty()) {
    for (int granule = open.low; granule < open.high; ++granule) {
      facts.protected_granules +=
          (ref.state(static_cast<std::uint32_t>(granule)) & GranuleState::pinned) != 0 ? 1 : 0;
    }
  }
  if constexpr (!C::in_place) {
    facts.allowed = allowed_granules(ref, ref.lane->budget, ref.lane->rows);
  }
  facts.ladder_cost = ref.lane->ladder_cost;
  facts.water_level = job.sequence->water_level;
  if constexpr (C::needs_entropy) {
    facts.entropy = ref.lane->entropy.mean;
    facts.mean_entropy = job.sequence->lane_entropy;
  }
  if constexpr (C::needs_layer_parts) {
    facts.layer_part = ref.lane->layer_part.value;
  }
  if constexpr (C::needs_sequence_shares) {
    facts.sequence_share = ref.lane->share.value;
  }
  facts.step = job.step();
  return facts;
}

using kvfreeze::detail::among_open;
using kvfreeze::detail::as_count;

/// Copies the lane's state bytes side by side into the scratch, for loops that vectorise.
template <class C>
std::uint8_t* load_states(LaneJob<C> const& job) noexcept {
  std::uint8_t* const states = job.scratch->states();
  int const granules = job.ref.granules();
  int first = 0;
  for (; first + tile_granules <= granules; first += tile_granules) {
    std::memcpy(states + first, job.ref.tile(static_cast<std::uint32_t>(first)).state.data(),
                tile_granules);
  }
  if (first < granules) {
    std::memcpy(states + first, job.ref.tile(static_cast<std::uint32_t>(first)).state.data(),
                static_cast<std::size_t>(granules - first));
  }
  return states;
}

/// What each level of the water asks for: open granules wanted at each epsilon, ascending.
template <class C>
void note_demand(LaneJob<C> const& job, LogHistogram const& histogram) noexcept {
  auto& demand = job.lane().demand;
  std::uint32_t left = histogram.total_count();
  std::uint64_t below = 0;
  std::size_t level = 0;
  for (int bin = 0; bin < LogHistogram::bins && level < water_levels; ++bin) {
    below += histogram.sums[bin];
    while (level < water_levels && below > recall_threshold<C>(job.context->levels[level])) {
      demand[level++] = left;
    }
    left -= histogram.counts[bin];
  }
  while (level < water_levels) {
    demand[level++] = 0;
  }
}

/// @brief Carries out a selection among the candidates of [low, high): `wanted()[i]` becomes 1 or
/// 0.
/// @return how many are wanted
template <class C>
int select_granules(LaneJob<C> const& job, Selection const& selection,
                    LogHistogram const& histogram, int low, int high) noexcept {
  std::uint32_t const* const scores = recall_scores(job);
  std::uint8_t const* const candidates = job.scratch->candidates();
  std::uint8_t* const wanted = job.scratch->wanted();
  auto const n = static_cast<std::size_t>(high - low);
  auto const at_least = [&](std::uint32_t threshold) {
    std::uint32_t count = 0;
    for (int i = low; i < high; ++i) {
      wanted[i] = static_cast<std::uint8_t>(candidates[i] & (scores[i] >= threshold ? 1 : 0));
      count += wanted[i];
    }
    return static_cast<int>(count);
  };
  switch (selection.kind) {
    case Selection::Kind::all:
      return at_least(0);
    case Selection::Kind::above:
      return at_least(recall_threshold<C>(selection.value));
    case Selection::Kind::mass: {
      BinCutoff const cutoff = histogram.all_but(recall_threshold<C>(selection.value));
      if (cutoff.bin < LogHistogram::bins) {
        return at_least(log_bin_floor(cutoff.bin));
      }
      break;
    }
    case Selection::Kind::count:
      if (selection.count > 0) {
        BinCutoff const cutoff = histogram.highest(static_cast<std::uint32_t>(selection.count));
        return static_cast<int>(
            apply_cutoff(cutoff, scores + low, candidates + low, n, wanted + low));
      }
      break;
    default:
      break;
  }
  std::fill_n(wanted + low, n, std::uint8_t{0});
  return 0;
}

/// @brief Decides what this step wants exact: `wanted()[g]` is 1 or 0 for every granule, and
/// `candidates()[g]` for those that were asked. `states()` must be loaded.
///
/// The cap has the last word: what it turns away counts as deferred.
/// @return the score from which an exact granule counts as wanted too (hysteresis); the largest
/// integer where `wanted()` alone says so
template <class C>
std::uint32_t mark_for_recall(LaneJob<C> const& job, LaneFacts const& facts) noexcept {
  Scratch& scratch = *job.scratch;
  auto const open = job.ref.open_range();
  std::uint8_t const* const states = scratch.states();
  std::uint8_t* const candidates = scratch.candidates();
  std::uint8_t* const wanted = scratch.wanted();
  auto const granules = static_cast<std::size_t>(facts.granules);
  std::memset(candidates, 0, granules);
  std::memset(wanted, 0, granules);
  for (int i = open.low; i < open.high; ++i) {
    // Exact or frozen, and not pinned: one mask, so that the loop vectorises.
    candidates[i] = static_cast<std::uint8_t>((states[i] & GranuleState::not_askable) == 0 ? 1 : 0);
  }
  Selection selection =
      as_count(among_open(job.context->scheduler.recall(facts), facts.protected_granules),
               open.high - open.low);
  if constexpr (kvfreeze::detail::is_eager<typename C::Scheduler>()) {
    selection = Selection::all();
  }
  LogHistogram histogram;
  auto const low = static_cast<std::size_t>(open.low);
  auto const count = static_cast<std::size_t>(open.high - open.low);
  if constexpr (C::has_digest) {
    histogram.add(recall_scores(job) + low, candidates + low, count);
    if (job.ref.lane->budget != unlimited &&
        kvfreeze::detail::base_level(job.context->scheduler) > 0.0F) {
      note_demand(job, histogram);
    }
  } else if (selection.kind != Selection::Kind::all) {
    selection = Selection::none();  // nothing is known of what is frozen
  }
  int const marked = select_granules(job, selection, histogram, open.low, open.high);
  int const room = std::max(facts.allowed - facts.protected_granules, 0);
  job.ref.lane->over_cap = marked > room;
  constexpr std::uint32_t nothing_more = std::numeric_limits<std::uint32_t>::max();
  if (marked <= room) {
    float const share = kvfreeze::detail::hysteresis(job.context->scheduler);
    if (!C::has_digest || selection.kind != Selection::Kind::mass || share >= 1.0F) {
      return nothing_more;
    }
    BinCutoff const keep = histogram.all_but(recall_threshold<C>(selection.value * share));
    return keep.bin < LogHistogram::bins ? log_bin_floor(keep.bin) : nothing_more;
  }
  job.ref.lane->deferred += static_cast<std::uint32_t>(marked - room);
  if constexpr (C::has_digest) {
    select_granules(job, Selection::highest(room), histogram, open.low, open.high);
  } else {
    int left = room;
    for (int i = open.high - 1; i >= open.low; --i) {  // newest first
      wanted[i] = static_cast<std::uint8_t>(candidates[i] & (left > 0 ? 1 : 0));
      left -= wanted[i];
    }
  }
  return nothing_more;
}

/// @brief Lists the frozen granules to thaw now, at most `limit`: forced and pinned ones, then
/// those carried over from earlier steps, then the highest scores. What does not fit is carried
/// over. `wanted()` and `states()` as `mark_for_recall` left them.
template <class C>
int list_thaws(LaneJob<C> const& job, int granules, int limit) noexcept {
  Scratch& scratch = *job.scratch;
  std::uint8_t const* const states = scratch.states();
  std::uint8_t const* const wanted = scratch.wanted();
  std::uint8_t* const picked = scratch.candidates();  // not needed any more
  std::uint32_t* const list = scratch.list();
  constexpr std::uint8_t must = GranuleState::forced | GranuleState::pinned;
  constexpr auto frozen = static_cast<std::uint8_t>(Fidelity::frozen);
  int total = 0;
  for (int i = 0; i < granules; ++i) {
    bool const absent = (states[i] & GranuleState::fidelity_mask) == frozen;
    picked[i] = static_cast<std::uint8_t>(absent && (wanted[i] != 0 || (states[i] & must) != 0));
    total += picked[i];
  }
  int count = 0;
  auto const push_where = [&](auto&& take) {
    for (int i = 0; i < granules; ++i) {
      if (picked[i] != 0 && count < limit && take(i)) {
        list[count++] = static_cast<std::uint32_t>(i);
        picked[i] = 0;
      }
    }
  };
  if (total <= limit) {
    for (int first = 0; first < granules; first += 8) {
      std::uint64_t word = 0;
      int const n = std::min(8, granules - first);
      std::memcpy(&word, picked + first, static_cast<std::size_t>(n));
      for (int i = first; word != 0; ++i, word >>= 8) {  // few bytes are set
        if ((word & 1U) != 0) {
          list[count++] = static_cast<std::uint32_t>(i);
        }
      }
    }
    return count;
  }
  push_where([&](int i) { return (states[i] & must) != 0; });
  push_where([&](int i) { return (states[i] & GranuleState::carried) != 0; });
  if constexpr (C::has_digest) {
    LogHistogram histogram;
    histogram.add(recall_scores(job), picked, static_cast<std::size_t>(granules));
    BinCutoff const cutoff = histogram.highest(static_cast<std::uint32_t>(limit - count));
    std::uint32_t const* const scores = recall_scores(job);
    push_where([&](int i) { return log_bin(scores[i]) > cutoff.bin; });
    push_where([&](int i) { return log_bin(scores[i]) == cutoff.bin; });
  } else {
    push_where([](int) { return true; });
  }
  for (int i = 0; i < granules; ++i) {
    if (picked[i] != 0) {
      job.ref.state(static_cast<std::uint32_t>(i)) |= GranuleState::carried;
    }
  }
  job.ref.lane->deferred += static_cast<std::uint32_t>(total - count);
  return count;
}

}  // namespace kvfreeze::host
