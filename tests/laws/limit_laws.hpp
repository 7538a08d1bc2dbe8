#pragma once

/// @file
/// @brief What a change of the byte cap has to obey: `kvfreeze::laws::limit<MyCache>()`.

#include "cache_laws.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace kvfreeze::laws {

/// @brief Down, up, down to the least, off: the cap holds at every moment, no row is lost, and
/// every byte is accounted for.
template <class Cache>
void the_cap_holds_when_it_changes(Settings<Cache> const& settings) {
  auto cache = make_cache<Cache>(settings);
  bool const capped = detail::tier_kind<typename Cache::tier_type>() != TierKind::in_place;
  std::size_t const least = least_cap<Cache>(settings);
  kvfreeze_test::CheckedSequence<Cache> sequence(cache, 41);
  sequence.attend(150);
  for (int i = 0; i < 10; ++i) {
    sequence.attend(1);
  }
  std::size_t const full = cache.ledger().resident();
  for (std::size_t const cap : {least + (full > least ? (full - least) / 2 : 0), least,
                                least + (1U << 15), least, unlimited, least + (1U << 14)}) {
    CAPTURE(cap, least, full);
    cache.limit(cap);
    REQUIRE(cache.limits().resident_bytes == cap);
    REQUIRE((!capped || cache.ledger().resident() <= cap));
    ledger_is_what_the_system_committed(cache);
    sequence.check();
    sequence.check_protected();
    for (int i = 0; i < 8; ++i) {
      sequence.attend(i == 5 ? 21 : 1);
    }
  }
  cache.limit(unlimited);
  sequence.attend(1);
  if (detail::is_lossless<typename Cache::tier_type>()) {
    sequence.thaw_and_compare(1);
  }
  sequence.close();
  ledger_is_what_the_system_committed(cache);
  REQUIRE(cache.ledger().tier == 0);
}

/// A cap that does not hold what has to stay changes nothing, and the error says what would do.
template <class Cache>
void a_cap_too_small_changes_nothing(Settings<Cache> const& settings) {
  if (detail::tier_kind<typename Cache::tier_type>() == TierKind::in_place) {
    return;  // there the cap does not bind
  }
  auto cache = make_cache<Cache>(settings);
  kvfreeze_test::CheckedSequence<Cache> first(cache, 43);
  kvfreeze_test::CheckedSequence<Cache> second(cache, 44);
  first.attend(100);
  first.pin({{10, 40}, {60, 61}});
  second.attend(70);
  first.attend(1);
  auto const fidelities = kvfreeze_test::all_fidelities(cache, first.handle());
  auto const ledger = cache.ledger();
  std::size_t needed = 0;
  // The largest of what its two checks ask for, one after the other.
  for (std::size_t cap : {std::size_t{1}, least_cap<Cache>(settings) - 1, std::size_t{0}}) {
    cap = cap == 0 ? needed - 1 : cap;
    try {
      cache.limit(cap);
      FAIL("accepted");
    } catch (CapacityError const& error) {
      REQUIRE(error.available() == cap);
      needed = std::max(needed, error.needed());
    }
    REQUIRE(cache.limits().resident_bytes == unlimited);
    REQUIRE(kvfreeze_test::all_fidelities(cache, first.handle()) == fidelities);
    REQUIRE(cache.ledger() == ledger);
  }
  for (int attempt = 0;; ++attempt) {
    REQUIRE(attempt < 4);
    try {
      cache.limit(needed);
      break;
    } catch (CapacityError const& error) {
      REQUIRE(error.needed() > needed);
      needed = error.needed();
    }
  }
  REQUIRE(cache.ledger().resident() <= needed);
  first.check();
  first.check_protected();
  second.check();
  second.check_protected();
  first.attend(1);
  second.attend(1);
}

template <class Cache>
void the_cap_changes_between_steps_only(Settings<Cache> const& settings) {
  auto cache = make_cache<Cache>(settings);
  Sequence const sequence = cache.open();
  kvfreeze_test::InputStream stream(cache_shape, 45);
  auto input = stream.next(3);
  cache.attend(sequence, 0, input.q, input.k, input.v, input.out);
  REQUIRE_THROWS_AS(cache.limit(1U << 24), InvalidArgument);
  REQUIRE(cache.limits().resident_bytes == unlimited);
  cache.truncate(sequence, 0);
  cache.limit(1U << 24);
}

template <class Cache>
void limit(Settings<Cache> const& settings = {}) {
  the_cap_holds_when_it_changes<Cache>(settings);
  a_cap_too_small_changes_nothing<Cache>(settings);
  the_cap_changes_between_steps_only<Cache>(settings);
}

/// @brief A prompt that was taken in without a cap, then a cap: in each lane no row that may freeze
/// and stays has a lower score than one that goes.
/// @param cut share of the exact rows' bytes that the cap leaves
template <class Cache>
void the_highest_scores_stay(Settings<Cache> const& settings, int tokens, int decoded, double cut) {
  Limits limits = cache_limits();
  limits.max_tokens = tokens + decoded + 64;
  auto cache = make_cache<Cache>(settings, limits);
  std::size_t const least = least_cap<Cache>(settings, limits);
  kvfreeze_test::InputStream stream(cache_shape, 46);
  Sequence const sequence = cache.open();
  for (int step = 0; step <= decoded; ++step) {
    for (int layer = 0; layer < cache_shape.layers; ++layer) {
      auto input = stream.next(step == 0 ? tokens : 1);
      cache.attend(sequence, layer, input.q, input.k, input.v, input.out);
    }
    cache.advance(sequence);
  }
  auto const lanes = static_cast<std::uint32_t>(cache_shape.layers * cache.lanes_per_layer());
  typename Cache::scorer_type const scorer{};
  std::vector<std::vector<float>> scores(lanes);
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    auto const ref = cache.memory().lane(sequence.index, lane);
    scores[lane].resize(static_cast<std::size_t>(ref.granules()));
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      RowEvidence row;
      row.position = static_cast<std::int32_t>(granule) * Cache::layout_type::page_tokens;
      row.age = ref.lane->rows - 1 - row.position;
      row.step = static_cast<std::uint32_t>(decoded) + 1U;
      row.key_norm = row.mean_abs_dot = row.mass = to_float(BFloat16{ref.record(slot).value});
      scores[lane][granule] = scorer.score(ref.score(granule, slot), row);
    });
  }
  auto const whole = cache.ledger();
  auto const left = static_cast<std::size_t>(static_cast<double>(whole.rows) * cut);
  std::size_t const cap = cache.memory().scratch_bytes(limits.max_tokens) + whole.resident() -
                          whole.scratch - whole.rows + left + (1U << 15);
  REQUIRE(cap >= least);
  cache.limit(cap);
  REQUIRE(cache.ledger().resident() <= cap);
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    auto const ref = cache.memory().lane(sequence.index, lane);
    auto const open = ref.open_range();
    float lowest = 3.4e38F;
    float highest = -1.0F;
    int stayed = 0;
    int went = 0;
    for (int granule = open.low; granule < open.high; ++granule) {
      auto const i = static_cast<std::uint32_t>(granule);
      bool const exact = ref.fidelity(i) == Fidelity::exact;
      (exact ? stayed : went) += 1;
      if (exact) {
        lowest = std::min(lowest, scores[lane][i]);
      } else {
        highest = std::max(highest, scores[lane][i]);
      }
    }
    CAPTURE(lane, stayed, went);
    REQUIRE(stayed > (open.high - open.low) / 8);
    REQUIRE(went > (open.high - open.low) / 8);
    REQUIRE(lowest >= highest);
  }
}

/// Whichever store fails: the old cap is in force, no row is lost, and the call can be repeated.
template <class Cache>
void limit_survives_every_fault(Settings<Cache> const& settings) {
  std::size_t const least = least_cap<Cache>(settings);
  for (int n = 1;; ++n) {
    CAPTURE(n);
    auto cache = make_cache<Cache>(settings);
    kvfreeze_test::CheckedSequence<Cache> sequence(cache, 47);
    sequence.attend(200);
    sequence.attend(1);
    cache.tier().arm({.call = static_cast<std::uint64_t>(n)});
    bool failed = false;
    try {
      cache.limit(least);
    } catch (TierError const&) {
      failed = true;
    }
    cache.tier().disarm();
    sequence.check();
    sequence.check_protected();
    if (!failed) {
      REQUIRE(cache.limits().resident_bytes == least);
      REQUIRE(n > 1);
      return;
    }
    REQUIRE(cache.limits().resident_bytes == unlimited);
    sequence.attend(1);
    cache.limit(least);
    REQUIRE(cache.ledger().resident() <= least);
    sequence.attend(1);
    cache.limit(unlimited);
    sequence.thaw_and_compare(1);
  }
}

}  // namespace kvfreeze::laws
