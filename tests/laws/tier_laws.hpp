#pragma once

/// @file
/// @brief What every tier has to obey: `kvfreeze::laws::tier([] { return MyTier{}; })`.

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>

#include "random.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace kvfreeze::laws {

/// Parts of 48 bytes: granules straddle the pages of whatever the tier keeps them in.
inline constexpr TierGeometry tier_geometry{
    .sequences = 2, .lanes = 3, .granules = 500, .part_bytes = 48};

using Row = std::pair<std::vector<std::byte>, std::vector<std::byte>>;

/// A batch and the bytes that its requests point to.
struct TierBatch {
  std::vector<TierKey> keys;
  std::vector<Row> rows;

  [[nodiscard]] std::vector<StoreRequest> stores() const {
    std::vector<StoreRequest> requests;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      requests.push_back({keys[i], rows[i].first, rows[i].second});
    }
    return requests;
  }

  [[nodiscard]] std::vector<LoadRequest> loads() {
    std::vector<LoadRequest> requests;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      requests.push_back({keys[i], rows[i].first, rows[i].second});
    }
    return requests;
  }
};

inline Row filled_row(std::size_t part_bytes, std::uint32_t seed) {
  Random random(seed);
  Row row{std::vector<std::byte>(part_bytes), std::vector<std::byte>(part_bytes)};
  for (std::vector<std::byte>* const part : {&row.first, &row.second}) {
    for (std::byte& byte : *part) {
      byte = static_cast<std::byte>(random() & 0xFFU);
    }
  }
  return row;
}

inline TierBatch random_batch(TierGeometry const& geometry, Random& random, std::size_t size) {
  TierBatch batch;
  for (std::size_t i = 0; i < size; ++i) {
    batch.keys.push_back(
        {random() % geometry.sequences, random() % geometry.lanes, random() % geometry.granules});
    batch.rows.push_back(filled_row(geometry.part_bytes, random()));
  }
  return batch;
}

template <TierPolicy Tier>
std::vector<Row> loaded(Tier& tier, std::vector<TierKey> const& keys,
                        TierGeometry const& geometry) {
  TierBatch batch{keys, std::vector<Row>(keys.size(), filled_row(geometry.part_bytes, 99))};
  tier.load(batch.loads());
  return batch.rows;
}

/// Random stores (overwriting ones too), loads and erasures against a map.
template <TierPolicy Tier>
void a_load_gives_what_was_last_stored(Tier tier, TierGeometry const& geometry) {
  detail::attach_tier(tier, geometry);
  std::map<TierKey, Row> expected;
  Random random(12345);
  for (int round = 0; round < 60; ++round) {
    TierBatch const batch = random_batch(geometry, random, random() % 40U);
    tier.store(batch.stores());
    for (std::size_t i = 0; i < batch.keys.size(); ++i) {
      expected[batch.keys[i]] = batch.rows[i];
    }
    TierKey const first{random() % geometry.sequences, random() % geometry.lanes,
                        random() % geometry.granules};
    TierKey last = first;
    last.granule += random() % 30U;
    tier.erase(first, last.granule - first.granule);
    expected.erase(expected.lower_bound(first), expected.lower_bound(last));
    std::vector<TierKey> keys;
    std::vector<Row> rows;
    for (auto const& [key, row] : expected) {
      if (random() % 4U == 0) {
        keys.push_back(key);
        rows.push_back(row);
      }
    }
    REQUIRE(loaded(tier, keys, geometry) == rows);
    REQUIRE(loaded(tier, keys, geometry) == rows);  // a load keeps the tier's copy
  }
}

template <TierPolicy Tier>
void storing_twice_is_storing_once(Tier tier, TierGeometry const& geometry) {
  detail::attach_tier(tier, geometry);
  Random random(6);
  TierBatch const batch = random_batch(geometry, random, 1);
  tier.store(batch.stores());
  std::size_t const bytes = tier.bytes();
  tier.store(batch.stores());
  REQUIRE(tier.bytes() == bytes);
  REQUIRE(loaded(tier, batch.keys, geometry) == batch.rows);
}

template <TierPolicy Tier>
void bytes_grow_and_return(Tier tier, TierGeometry const& geometry) {
  detail::attach_tier(tier, geometry);
  std::size_t const start = tier.bytes();
  Random random(8);
  for (int round = 0; round < 3; ++round) {
    TierBatch const batch = random_batch(geometry, random, 300);
    tier.store(batch.stores());
    REQUIRE(tier.bytes() > start);
    REQUIRE(tier.bytes() <= detail::tier_capacity(tier));
    for (std::uint32_t sequence = 0; sequence < geometry.sequences; ++sequence) {
      for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
        tier.erase({sequence, lane, 0}, geometry.granules / 3);
        tier.erase({sequence, lane, geometry.granules / 3}, geometry.granules);
        tier.erase({sequence, lane, 0}, geometry.granules);  // nothing left: no effect
      }
    }
    REQUIRE(tier.bytes() == start);
  }
}

/// One unknown key fails the whole load, before any buffer is written.
template <TierPolicy Tier>
void an_unknown_granule_cannot_be_loaded(Tier tier, TierGeometry const& geometry) {
  detail::attach_tier(tier, geometry);
  TierBatch known{{{0, 1, 2}}, {filled_row(geometry.part_bytes, 1)}};
  tier.store(known.stores());
  TierBatch batch{{{0, 1, 2}, {0, 1, 3}},
                  {filled_row(geometry.part_bytes, 2), filled_row(geometry.part_bytes, 3)}};
  std::vector<Row> const before = batch.rows;
  REQUIRE_THROWS_AS(tier.load(batch.loads()), TierError);
  REQUIRE(batch.rows == before);
  REQUIRE(loaded(tier, known.keys, geometry) == known.rows);
  tier.erase({0, 1, 2}, 1);
  REQUIRE_THROWS_AS(loaded(tier, known.keys, geometry), TierError);
}

template <TierPolicy Tier>
void moving_keeps_the_contents(Tier tier, TierGeometry const& geometry) {
  detail::attach_tier(tier, geometry);
  Random random(21);
  TierBatch const batch = random_batch(geometry, random, 1);
  tier.store(batch.stores());
  std::size_t const bytes = tier.bytes();
  Tier moved(std::move(tier));
  REQUIRE(moved.bytes() == bytes);
  REQUIRE(loaded(moved, batch.keys, geometry) == batch.rows);
  Tier assigned(std::move(moved));
  moved = std::move(assigned);
  REQUIRE(moved.bytes() == bytes);
  REQUIRE(loaded(moved, batch.keys, geometry) == batch.rows);
}

template <TierPolicy Tier>
void a_failed_call_changes_nothing(Tier inner, TierGeometry const& geometry) {
  FaultInjecting<Tier> tier(std::move(inner), FaultPlan{.call = 2});
  detail::attach_tier(tier, geometry);
  TierBatch const first{{{0, 1, 3}}, {filled_row(geometry.part_bytes, 1)}};
  TierBatch const second{{{0, 1, 3}, {0, 1, 4}},
                         {filled_row(geometry.part_bytes, 2), filled_row(geometry.part_bytes, 3)}};
  tier.store(first.stores());
  std::size_t const bytes = tier.bytes();
  REQUIRE_THROWS_AS(tier.store(second.stores()), TierError);
  REQUIRE(tier.bytes() == bytes);
  REQUIRE(loaded(tier, first.keys, geometry) == first.rows);
  tier.store(second.stores());
  REQUIRE(loaded(tier, second.keys, geometry) == second.rows);
}

/// @brief Stores, erasures and forks in every order against maps: forks are copies, whoever goes
/// first; blocks that are shared count once; nothing is left at the end.
template <TierPolicy Tier>
void forks_are_copies(Tier tier, TierGeometry geometry) {
  geometry.sequences = 5;
  detail::attach_tier(tier, geometry);
  std::size_t const start = tier.bytes();
  std::map<TierKey, Row> expected;
  Random random(77);
  auto const forget = [&](std::uint32_t sequence) {
    for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
      tier.erase({sequence, lane, 0}, geometry.granules);
    }
    expected.erase(expected.lower_bound({sequence, 0, 0}),
                   expected.lower_bound({sequence + 1, 0, 0}));
  };
  std::uint32_t const used = std::min(geometry.granules, 40U);  // that they may meet
  for (int round = 0; round < 400; ++round) {
    CAPTURE(round);
    std::uint32_t const choice = random() % 10U;
    std::uint32_t const sequence = random() % geometry.sequences;
    if (choice < 4) {
      TierBatch batch = random_batch(geometry, random, random() % 20U);
      for (TierKey& key : batch.keys) {
        key.granule %= used;
      }
      tier.store(batch.stores());
      for (std::size_t i = 0; i < batch.keys.size(); ++i) {
        expected[batch.keys[i]] = batch.rows[i];
      }
    } else if (choice < 6) {
      TierKey const first{sequence, random() % geometry.lanes, random() % used};
      TierKey last = first;
      last.granule += random() % 12U;
      tier.erase(first, last.granule - first.granule);
      expected.erase(expected.lower_bound(first), expected.lower_bound(last));
    } else if (choice < 8) {
      std::uint32_t const child =
          (sequence + 1 + random() % (geometry.sequences - 1)) % geometry.sequences;
      forget(child);
      tier.fork(sequence, child);
      std::map<TierKey, Row> copies;
      for (auto at = expected.lower_bound({sequence, 0, 0});
           at != expected.end() && at->first.sequence == sequence; ++at) {
        copies[{child, at->first.lane, at->first.granule}] = at->second;
      }
      expected.merge(copies);
    } else if (choice < 9) {
      forget(sequence);
    }
    std::vector<TierKey> keys;
    std::vector<Row> rows;
    for (auto const& [key, row] : expected) {
      keys.push_back(key);
      rows.push_back(row);
    }
    REQUIRE((loaded(tier, keys, geometry) == rows));
    for (int i = 0; i < 10; ++i) {
      TierKey const key{random() % geometry.sequences, random() % geometry.lanes, random() % used};
      if (!expected.contains(key)) {
        REQUIRE_THROWS_AS(loaded(tier, {key}, geometry), TierError);
      }
    }
  }
  for (std::uint32_t const sequence : {2U, 0U, 4U, 1U, 3U}) {
    forget(sequence);
  }
  REQUIRE(tier.bytes() == start);
}

/// A fork copies no bytes, and neither does the end of one side.
template <TierPolicy Tier>
void what_is_shared_counts_once(Tier tier) {
  TierGeometry const geometry{.sequences = 4, .lanes = 2, .granules = 100, .part_bytes = 1024};
  detail::attach_tier(tier, geometry);
  Random random(78);
  TierBatch batch;
  for (std::uint32_t granule = 0; granule < 60; ++granule) {
    batch.keys.push_back({1, 1, granule});
    batch.rows.push_back(filled_row(geometry.part_bytes, random()));
  }
  tier.store(batch.stores());
  std::size_t const alone = tier.bytes();
  for (std::uint32_t const child : {0U, 2U, 3U}) {
    tier.fork(1, child);
    REQUIRE(tier.bytes() < alone + alone / 4 * (child + 1));
  }
  tier.erase({1, 1, 0}, geometry.granules);
  for (TierKey& key : batch.keys) {
    key.sequence = 2;
  }
  REQUIRE(loaded(tier, batch.keys, geometry) == batch.rows);
  std::size_t const shared = tier.bytes();
  tier.erase({0, 1, 0}, geometry.granules);
  tier.erase({3, 1, 0}, geometry.granules);
  REQUIRE(tier.bytes() <= shared);
  REQUIRE(tier.bytes() >= 60 * 2 * geometry.part_bytes);
  tier.erase({2, 1, 0}, geometry.granules);
  REQUIRE(tier.bytes() < alone / 4);
}

/// An empty batch is no call for help, whatever the tier.
template <TierPolicy Tier>
void empty_batches_do_nothing(Tier tier, TierGeometry const& geometry) {
  detail::attach_tier(tier, geometry);
  std::size_t const bytes = tier.bytes();
  REQUIRE_NOTHROW(tier.store({}));
  REQUIRE_NOTHROW(tier.load({}));
  tier.erase({}, 0);
  REQUIRE(tier.bytes() == bytes);
}

/// @param make returns a fresh tier
template <class Make>
void tier(Make const& make, TierGeometry const& geometry = tier_geometry) {
  using Tier = decltype(make());
  detail::validate_policy(make());
  empty_batches_do_nothing(make(), geometry);
  if constexpr (detail::tier_kind<Tier>() != TierKind::holding) {
    REQUIRE(make().bytes() == 0);  // no copy anywhere
  } else {
    static_assert(detail::is_lossless<Tier>(), "the laws below compare bytes");
    a_load_gives_what_was_last_stored(make(), geometry);
    storing_twice_is_storing_once(make(), geometry);
    bytes_grow_and_return(make(), geometry);
    an_unknown_granule_cannot_be_loaded(make(), geometry);
    moving_keeps_the_contents(make(), geometry);
    a_failed_call_changes_nothing(make(), geometry);
    if constexpr (detail::ForksSequences<Tier>) {
      forks_are_copies(make(), geometry);
      what_is_shared_counts_once(make());
    }
  }
}

}  // namespace kvfreeze::laws
