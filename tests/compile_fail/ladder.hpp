#pragma once

// A ladder of which one part can be exchanged.

#include <kvfreeze/presets.hpp>

template <class Scorer = kvfreeze::InstantMassScorer<kvfreeze::KeyCodes<4>>,
          class Scheduler = kvfreeze::LadderScheduler<>, class Tier = kvfreeze::HostTier,
          int KeyBits = 4>
using Ladder = kvfreeze::KvFreezeCache<
    kvfreeze::Layout<kvfreeze::Half, 1, kvfreeze::Grouping::kv_head,
                     kvfreeze::CompactRows<kvfreeze::CompactLevel<KeyBits, 4>>>,
    Scorer, Scheduler, Tier, kvfreeze::NeverTrigger>;

template <class Cache>
std::size_t rows_of(Cache const& cache, kvfreeze::Sequence sequence) {
  return cache.rows(sequence).compact;
}
