#pragma once

/// @file
/// @brief Random operations on a cache and on the reference beside it.

#include "../support/checked_cache.hpp"
#include "../support/short_tests.hpp"

#include <catch2/catch.hpp>

#include <cstdint>
#include <memory>
#include <sstream>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvfreeze_test {

inline constexpr kvfreeze::Shape small_shape{
    .layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};

/// Which limits a run has.
enum class Pressure : std::uint8_t { none, cap, transfer, both };

inline std::vector<float> random_logits(Random& random) {
  std::vector<float> logits(50);
  float const sharpness = static_cast<float>(random.below(8));
  for (float& x : logits) {
    x = sharpness * random.uniform();
  }
  return logits;
}

/// Sorted, disjoint, partly in the future.
inline std::vector<kvfreeze::TokenRange> random_pins(Random& random, int length) {
  std::vector<kvfreeze::TokenRange> pins;
  int position = 0;
  for (std::uint32_t i = random.below(3); i > 0; --i) {
    int const begin =
        position + static_cast<int>(random.below(static_cast<std::uint32_t>(length / 2 + 10)));
    position = begin + 1 + static_cast<int>(random.below(7));
    if (position > 300) {
      break;
    }
    pins.push_back({begin, position});
  }
  return pins;
}

/// @brief One run of `operations` operations. Everything is checked after each of them.
/// @return rows that were not exact, summed over operations
template <class Cache>
std::uint64_t random_operations(typename Cache::scheduler_type const& scheduler,
                                typename Cache::trigger_type const& trigger, Pressure pressure,
                                std::uint64_t seed, int operations) {
  CAPTURE(seed, static_cast<int>(pressure));
  int operation = 0;
  std::uint64_t absent = 0;
  Random random(seed);
  kvfreeze::Limits limits;
  limits.max_tokens = 400;
  limits.max_sequences = 3;
  limits.sinks = static_cast<int>(random.below(6));
  limits.window = 1 + static_cast<int>(random.below(24));
  bool const capped = pressure == Pressure::cap || pressure == Pressure::both;
  if (pressure == Pressure::transfer || pressure == Pressure::both) {
    int const rows = 4 * Cache::layout_type::page_tokens * (1 + static_cast<int>(random.below(4)));
    limits.transfer_bytes = static_cast<std::size_t>(rows) * 2U * 16U * sizeof(float);
  }
  std::size_t needed = 1;
  if (capped) {
    kvfreeze::Limits least = limits;
    least.resident_bytes = 1;
    try {
      Cache const too_small(small_shape, least, {}, scheduler, typename Cache::tier_type(),
                            trigger);
    } catch (kvfreeze::CapacityError const& error) {
      needed = error.needed();
    }
    limits.max_sequences = seed % 2 == 0 ? 1 : 3;
    limits.resident_bytes = seed % 2 == 0 ? needed : 3 * needed + random.below(1U << 17);
  }
  Cache cache(small_shape, limits, {}, scheduler, typename Cache::tier_type(), trigger);
  std::vector<std::unique_ptr<CheckedSequence<Cache>>> sequences;
  auto const open = [&] {
    sequences.push_back(std::make_unique<CheckedSequence<Cache>>(cache, random()));
  };
  open();
  for (; operation < operations; ++operation) {
    std::uint32_t const choice = random.below(100);
    std::uint32_t const which = random.below(static_cast<std::uint32_t>(sequences.size()));
    CAPTURE(operation, choice, which);
    CheckedSequence<Cache>& sequence = *sequences[which];
    auto const counts = cache.rows(sequence.handle());
    absent += counts.total() - counts.exact;
    int const room = limits.max_tokens - sequence.length();
    auto const logits = random_logits(random);
    // A cap may hold several sequences as they are and not as they grow: then this one goes.
    auto const grow = [&](auto&& take_rows) {
      try {
        take_rows();
      } catch (kvfreeze::CapacityError const&) {
        REQUIRE(capped);
        REQUIRE(sequences.size() > 1);
        sequence.close();
        sequences.erase(sequences.begin() + which);
        for (auto const& one : sequences) {
          one->check();
        }
      }
    };
    if (choice < 3 && sequences.size() < 3) {
      try {
        open();
      } catch (kvfreeze::CapacityError const&) {
        REQUIRE(capped);
      }
    } else if (choice < 5 && sequences.size() > 1) {
      sequence.close();
      REQUIRE_THROWS_AS(cache.length(sequence.handle()), kvfreeze::UnknownSequence);
      sequences.erase(sequences.begin() + which);
    } else if (choice < 13 || room < 60) {
      int const back = room < 60 ? 200 : static_cast<int>(random.below(40));
      int const length = std::max(sequence.length() - back, 0);
      if (keeps_rows<Cache> || length % Cache::layout_type::page_tokens == 0) {
        sequence.truncate(length);
      }
    } else if (choice < 17) {
      sequence.pin(capped ? std::vector<kvfreeze::TokenRange>{}
                          : random_pins(random, sequence.length()));
    } else if (choice < 20 && !capped) {
      if (keeps_rows<Cache> && pressure == Pressure::none && random.below(2) == 0) {
        sequence.thaw_and_compare(random.below(2) == 0 ? 1 : 17);
      } else {
        sequence.thaw();
      }
    } else if (choice < 30) {
      grow([&] { sequence.attend(2 + static_cast<int>(random.below(50)), logits); });
    } else if (choice >= 97 && capped) {
      std::size_t const cap = needed * (1 + random.below(3)) + random.below(1U << 16);
      try {
        cache.limit(cap);
      } catch (kvfreeze::CapacityError const&) {
        REQUIRE(sequences.size() > 1);
      }
      for (auto const& one : sequences) {
        one->check();
      }
    } else if (choice >= 95 && sequences.size() < 3) {
      try {
        auto const child = cache.fork(sequence.handle());
        sequences.push_back(std::make_unique<CheckedSequence<Cache>>(sequence, cache, child));
        sequences.back()->check();
        sequences.back()->diverge(random());
      } catch (kvfreeze::CapacityError const&) {
        REQUIRE(capped);
      }
      sequences[which]->check();
    } else if (choice >= 92) {
      std::stringstream file;
      cache.save(sequence.handle(), file);
      sequence.close();
      auto restored =
          std::make_unique<CheckedSequence<Cache>>(sequence, cache, cache.restore(file));
      restored->check();
      sequences[which] = std::move(restored);
    } else if (choice < 36) {
      grow([&] { sequence.append_and_observe(1, static_cast<int>(random.below(3)), logits); });
    } else if (choice < 38) {
      grow([&] { sequence.append_and_observe(1 + static_cast<int>(random.below(9)), 0, logits); });
    } else {
      grow([&] {
        for (std::uint32_t i = random.below(12); i > 0 && sequence.length() < 390; --i) {
          sequence.attend(1, logits);
        }
      });
    }
  }
  while (!sequences.empty()) {
    sequences.back()->close();
    sequences.pop_back();
  }
  auto const ledger = cache.ledger();
  REQUIRE(ledger.rows + ledger.digests + ledger.codes + ledger.metadata + ledger.tier == 0);
  return absent;
}

/// @brief The runs of one composition, under every pressure. Short tests do less, and end with the
/// first seed that freezes a row.
template <class Cache>
void random_operations(typename Cache::scheduler_type const& scheduler = {},
                       typename Cache::trigger_type const& trigger = {}) {
  int const operations = short_tests() ? 40 : 60;
  std::uint64_t absent = 0;
  for (std::uint64_t seed = 1; seed <= 3 && !(short_tests() && absent > 0); ++seed) {
    for (Pressure const pressure :
         {Pressure::none, Pressure::cap, Pressure::transfer, Pressure::both}) {
      absent += random_operations<Cache>(scheduler, trigger, pressure, seed, operations);
    }
  }
  using Scheduler = typename Cache::scheduler_type;
  REQUIRE((absent > 0 || std::is_same_v<Scheduler, kvfreeze::KeepAllScheduler>));
}

}  // namespace kvfreeze_test
