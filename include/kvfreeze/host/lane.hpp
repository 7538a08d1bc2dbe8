#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/evidence.hpp>
#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/types.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace kvfreeze::host {

inline constexpr std::uint32_t no_slot = std::numeric_limits<std::uint32_t>::max();
inline constexpr std::uint32_t no_granule = std::numeric_limits<std::uint32_t>::max();
inline constexpr int wheel_slots = 64;   ///< wake steps further away go round again
inline constexpr int water_levels = 32;  ///< epsilons at which lanes state their demand

/// The water levels: ascending epsilons from a scheduler's own to 1; 0 where it has none.
inline std::array<float, water_levels> water_epsilons(float base) {
  std::array<float, water_levels> levels{};
  for (std::size_t i = 0; i < levels.size() && base > 0.0F; ++i) {
    double const share = static_cast<double>(i) / (water_levels - 1);
    levels[i] = static_cast<float>(std::pow(static_cast<double>(base), 1.0 - share));
  }
  return levels;
}

inline constexpr int planned_chunk = 512;  ///< tokens of a step that finds room under any cap

/// State byte of a granule: its fidelity and flags.
struct GranuleState {
  static constexpr std::uint8_t fidelity_mask = 0x07;
  /// Set in a compact, asleep, evicted or pinned granule: recall does not ask those.
  static constexpr std::uint8_t not_askable = 0x15;
  /// Set in a compact, asleep or evicted granule: digests do not stand for those.
  static constexpr std::uint8_t not_estimated = 0x05;
  static constexpr std::uint8_t clean = 0x08;  ///< the tier holds the exact rows
  static constexpr std::uint8_t pinned = 0x10;
  static constexpr std::uint8_t forced = 0x20;   ///< thaw it at the next recall, wanted or not
  static constexpr std::uint8_t carried = 0x40;  ///< was wanted and did not fit: first in line

  KVFREEZE_HD static constexpr Fidelity fidelity(std::uint8_t state) noexcept {
    return static_cast<Fidelity>(state & fidelity_mask);
  }

  KVFREEZE_HD static constexpr std::uint8_t with(std::uint8_t state, Fidelity fidelity) noexcept {
    return static_cast<std::uint8_t>((state & ~fidelity_mask) |
                                     static_cast<std::uint8_t>(fidelity));
  }
};

/// What is known of an exact granule; lies beside its rows.
struct SlotRecord {
  std::uint32_t granule = no_granule;
  std::uint16_t stamp = 0;  ///< low half of the step that wanted it last
  std::uint16_t value = 0;  ///< its last evidence as bfloat16: mass, mean |q.k| or key norm
};

/// A slot's record and, where nothing comes back, the granule's score.
template <class C>
struct Slot : SlotRecord {
  using Score = typename C::Scorer::State;

  Slot() = default;

  Slot(std::uint32_t number, std::uint16_t wanted, std::uint16_t evidence) noexcept
      : SlotRecord{number, wanted, evidence} {}

  [[no_unique_address]] std::conditional_t<C::scores_in_slots, Score, NoState> score{};
};

/// Counter and timer of a granule, for schedulers that sleep.
struct Timer {
  std::uint32_t next = no_granule;       ///< next of the wheel's bucket
  std::uint32_t wake = 0;                ///< step at which the granule is due
  std::uint16_t count = 0;               ///< detections, c of the papers
  std::uint16_t last = 0;                ///< low half of the step of the last detection
  std::array<std::uint16_t, 2> saved{};  ///< `count` at the last two checkpoints
};

struct NoTimer {};

struct NoChange {};

struct NoArena {};

/// Entropy of a lane's attention: the mean of the first 64 queries that tell it, then exponential.
struct LaneEntropy {
  static constexpr std::uint32_t most = 64;  ///< `queries` goes no further

  float mean = 0.0F;  ///< bits
  std::uint32_t queries = 0;
};

struct NoEntropy {};

/// Queries in the lane's running means.
struct MomentCount {
  static constexpr std::uint32_t most = 256;  ///< `queries` goes no further

  std::uint32_t queries = 0;
};

struct NoMoments {};

/// @see LaneFacts::sequence_share
struct SequenceShare {
  float value = 1.0F;
};

struct NoShare {};

/// @see LaneFacts::layer_part
struct LayerPart {
  float value = 1.0F;
};

struct NoPart {};

/// What a lane holds at one compact level. Slots are dense, as those of exact rows are.
struct Pool {
  std::int32_t slots = 0;   ///< granules
  std::int32_t blocks = 0;  ///< committed
  std::uint32_t first = 0;  ///< granule of slot 0
  bool consecutive = true;  ///< slot i holds granule first + i
};

/// Metadata of 64 granules of one lane. Tiles of a token range lie side by side for all lanes, so
/// that a sequence grows by whole pages.
template <class C>
struct GranuleTile {
  using Score = typename C::Scorer::State;
  static constexpr bool has_scores = C::has_state && !C::scores_in_slots;
  static constexpr int scores = has_scores ? tile_granules : 1;
  static constexpr int timers = C::sleeps ? tile_granules : 1;

  std::array<std::uint8_t, tile_granules> state;
  /// Low half of the step of the last freeze; on the ladder no recovery asks for it, nor where
  /// nothing comes back.
  [[no_unique_address]] std::conditional_t<C::has_levels || C::discards, NoChange,
                                           std::array<std::uint16_t, tile_granules>> changed;
  [[no_unique_address]] std::conditional_t<has_scores, std::array<Score, scores>, NoState> score;
  [[no_unique_address]] std::conditional_t<C::sleeps, std::array<Timer, timers>, NoTimer> timer;
};

/// One lane's own numbers. Only the part that owns the lane touches them between two `advance()`s.
template <class C>
struct Lane {
  std::int32_t rows = 0;   ///< appended, this step's included
  std::int32_t slots = 0;  ///< granule slots in use, dense (in place: granules)
  std::int32_t exact = 0;  ///< exact granules
  std::int32_t asleep = 0;
  std::int32_t evicted = 0;
  std::int32_t groups = 0;     ///< digest groups encoded
  std::int32_t blocks = 0;     ///< committed
  std::int32_t ready = -1;     ///< rows at the last recall; recall runs once per step
  std::int32_t owed = 0;       ///< protected granules that truncation left frozen
  std::int32_t tile_rows = 0;  ///< rows that the committed metadata covers
  bool ordered = true;         ///< slot i holds the i-th granule
  std::size_t budget =
      unlimited;                ///< bytes for rows, digests and metadata until the next advance()
  std::size_t aim = unlimited;  ///< bytes that the water level leaves to the lane: on the ladder
                                ///< it shrinks towards them, while `budget` is the hard limit
  std::size_t allotment = unlimited;  ///< bytes that may move for each token of a step
  std::size_t transfer_left = 0;      ///< bytes that may still move in this step
  std::size_t touched = 0;            ///< bytes read in this step
  std::size_t moved_in = 0;
  std::size_t moved_out = 0;
  std::uint32_t thawed = 0;    ///< granules
  std::uint32_t frozen = 0;    ///< granules
  std::uint32_t deferred = 0;  ///< granules wanted and not thawed
  std::uint32_t forced = 0;    ///< granules flagged `forced`
  float missed = 0.0F;         ///< mass that this step's attention does not see
  float cosine = 1.0F;         ///< between this query and the previous one
  [[no_unique_address]] std::conditional_t<C::needs_entropy, LaneEntropy, NoEntropy> entropy;
  [[no_unique_address]] std::conditional_t<C::rates, MomentCount, NoMoments> moments;
  [[no_unique_address]] std::conditional_t<C::needs_layer_parts, LayerPart, NoPart> layer_part;
  [[no_unique_address]] std::conditional_t<C::needs_sequence_shares, SequenceShare, NoShare> share;
  bool over_cap = false;        ///< the cap decided what is exact
  std::uint32_t queries = 0;    ///< ring entries pushed since `open`, less those taken back
  std::int32_t held = 0;        ///< the newest entries of the ring that are valid
  std::uint32_t next_wake = 0;  ///< first step whose sleepers were not woken yet
  std::array<Pool, most_levels> pools{};  ///< compact rows by level
  [[no_unique_address]] std::conditional_t<C::has_levels, ArenaStarts, NoArena> starts;
  /// Masses from which a row stood above each level at the last step.
  std::array<std::uint32_t, most_levels + 1> least{};
  float ladder_cost = std::numeric_limits<float>::infinity();  ///< as in LaneFacts
  std::int32_t next_look = 0;  ///< rows from which the cost is looked at again
  std::uint32_t weighed = 0;   ///< step whose queries were noted last, plus 1
  bool refused = false;        ///< the tier refused rows on the fast clock: they stayed exact
  /// What each water level asks for: unprotected granules, or with compact levels bytes.
  std::array<std::uint32_t, water_levels> demand{};
  std::array<std::uint32_t, C::sleeps ? wheel_slots : 1> wheel{};  ///< heads of the buckets
  std::array<std::uint32_t, static_cast<std::size_t>(C::tail_granules)> tail{};  ///< slots
};

}  // namespace kvfreeze::host
