#pragma once

#include <kvfreeze/types.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace kvfreeze {

/// @brief Where every byte is. `resident()` never exceeds `Limits::resident_bytes`.
struct Ledger {
  std::size_t rows = 0;      ///< pools of exact rows (K and V), committed
  std::size_t digests = 0;   ///< key codes with their scales, committed
  std::size_t codes = 0;     ///< compact rows' values and lower bits of keys, committed
  std::size_t metadata = 0;  ///< states, counters, timers, scores, lists, rests of pages
  std::size_t scratch = 0;   ///< work space of the parts, query windows
  std::size_t tier = 0;      ///< bytes held by the tier outside the cache (not resident)

  [[nodiscard]] constexpr std::size_t resident() const noexcept {
    return rows + digests + codes + metadata + scratch;
  }

  friend constexpr bool operator==(Ledger const&, Ledger const&) = default;
};

/// Rows of a sequence by fidelity, summed over its lanes (a lane's row is K and V of its heads).
struct RowCounts {
  std::uint64_t exact = 0;
  std::uint64_t compact = 0;
  std::uint64_t frozen = 0;  ///< awake
  std::uint64_t asleep = 0;
  std::uint64_t evicted = 0;

  [[nodiscard]] constexpr std::uint64_t total() const noexcept {
    return exact + compact + frozen + asleep + evicted;
  }

  friend constexpr bool operator==(RowCounts const&, RowCounts const&) = default;
};

/// Which control decided how many rows stay exact.
enum class Binding : std::uint8_t { nothing, missed_mass, resident_bytes, transfer_bytes };

/// @brief What one step did: the result of `advance()`.
struct StepReport {
  std::uint32_t step = 0;         ///< steps taken by the sequence, this one included
  int length = 0;                 ///< tokens in the sequence
  RowCounts rows;                 ///< after the step
  Ledger ledger;                  ///< of the whole cache, after the step
  std::size_t full_bytes = 0;     ///< what a plain cache of this sequence would hold, same elements
  std::size_t touched_bytes = 0;  ///< cache bytes read by scan, recall and attention in this step
  std::size_t moved_in_bytes = 0;   ///< tier -> cache
  std::size_t moved_out_bytes = 0;  ///< cache -> tier
  std::uint64_t thawed_rows = 0;    ///< rows that were loaded to a higher fidelity
  std::uint64_t frozen_rows = 0;    ///< rows that were exact and are not any more
  std::uint64_t deferred_rows = 0;  ///< wanted, but over the transfer budget or the cap: next step
  float missed_mass = 0.0F;         ///< mean over lanes of the estimated mass of frozen rows
  float missed_mass_max = 0.0F;     ///< the worst lane's; sleepers and lanes without digest count 0
  float water_level = 0.0F;         ///< the epsilon in force, 0 where the scheduler has none
  Binding binding = Binding::nothing;
  bool has_logits = false;       ///< the three below were computed
  float entropy = 0.0F;          ///< of the next-token distribution, nats
  float entropy_change = 0.0F;   ///< against its running mean, nats
  float top_probability = 0.0F;  ///< of the likeliest token
  Recovery recovery = Recovery::none;
  /// After a Rewalk Regeneration: the new length. The engine forgets its tokens from there on,
  /// restores its sampler and decodes again.
  std::optional<int> rewind_to;
};

}  // namespace kvfreeze
