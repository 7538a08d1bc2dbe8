#pragma once

/// @file
/// @brief What the device knows of a lane, and where its things lie.

#include <kvfreeze/gpu/detail/code_slot.cuh>
#include <kvfreeze/gpu/detail/spilled_rows.cuh>
#include <kvfreeze/gpu/geometry.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/host/lane.hpp>
#include <kvfreeze/types.hpp>

#include <cuda/std/limits>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// How a lane's step goes; decided when its row is appended.
enum class LaneMode : std::uint8_t {
  dense,   ///< everything is exact and attended
  ranked,  ///< rows are ranked before attention
  looks,   ///< everything is exact; ranked to find out what the ladder would cost
};

inline constexpr std::uint32_t no_limit = 0xFFFFFFFFU;  ///< of pages, of granules

/// @brief One lane's own numbers. Written by the one block that works on the lane.
struct LaneState {
  std::int32_t rows = 0;  ///< appended, this step's included
  /// Exact granules, dense; in place: entries of the list. The newest granule is the last one while
  /// it has room for rows.
  std::int32_t slots = 0;
  std::int32_t evicted = 0;              ///< granules that are gone
  std::int32_t guests = 0;               ///< behind them: loaded for this step's attention only
  std::int32_t groups = 0;               ///< digest groups encoded
  std::int32_t chunk = 0;                ///< rows of a chunk that are on their way in
  std::int32_t chunk_frozen = 0;         ///< of them behind the sinks that are not held exact
  std::int32_t codes[most_levels] = {};  ///< compact granules by level, dense
  std::uint32_t pages[segments] = {};    ///< pages held, by segment
  std::uint32_t thawed = 0;              ///< granules, in this step
  std::uint32_t frozen = 0;              ///< granules, in this step
  std::uint32_t deferred = 0;            ///< granules wanted and not thawed, in this step
  std::uint32_t forced = 0;              ///< granules flagged `forced`
  std::uint32_t asleep = 0;              ///< granules that recall does not ask yet
  std::int32_t first_query = 0;          ///< position of the oldest query that is known
  float cosine = 1.0F;                   ///< between this step's queries and the ones before
  std::uint32_t mean_queries = 0;        ///< queries in the lane's running means of them
  float layer_part = 1.0F;               ///< as in LaneFacts
  float share = 1.0F;                    ///< as LaneFacts::sequence_share
  float entropy = 0.0F;                  ///< of the lane's attention, a running mean, bits
  std::uint32_t entropies = 0;           ///< queries in it
  std::uint64_t touched = 0;             ///< bytes read in this step
  std::uint64_t moved_in = 0;            ///< bytes from the tier, in this step
  std::uint64_t moved_out = 0;           ///< bytes to the tier, in this step
  float missed = 0.0F;                   ///< mass that this step's attention does not see
  float ladder_cost = ::cuda::std::numeric_limits<float>::infinity();  ///< as in LaneFacts
  std::int32_t next_look = 0;          ///< rows from which the cost is looked at again
  std::uint32_t budget = no_limit;     ///< pages that the lane may hold until the step ends
  std::uint32_t aim = no_limit;        ///< pages that the water level leaves to it
  std::uint32_t allotment = no_limit;  ///< granules that may come from the tier in a step
  float water = 0.0F;                  ///< the water level in force, an epsilon
  std::uint32_t demand[host::water_levels] = {};  ///< pages of rows and codes, by water level
  LaneMode mode = LaneMode::dense;
  bool sinks = false;           ///< this step lets sink what was not needed
  bool over_cap = false;        ///< the cap decided this step's levels
  std::uint32_t tail[64] = {};  ///< places of the rows that no digest holds yet
};

/// @brief Counter and timer of a granule. @see host::Timer
struct GranuleTimer {
  std::uint32_t wake = 0;   ///< step at which the granule is due
  std::uint16_t count = 0;  ///< detections
  std::uint16_t last = 0;   ///< low half of the step of the last detection
};

/// A granule's counter at the last two checkpoints, the newer one first.
struct SavedCounts {
  std::uint16_t newer = 0;
  std::uint16_t older = 0;
};

/// @brief The pool of pages. A launch takes pages or gives pages back, never both, so that a
/// counter is all that guards the list.
struct PagePool {
  std::byte* base = nullptr;
  std::uint32_t* free_list = nullptr;
  std::int32_t* free_count = nullptr;  ///< may fall below 0 by pages that were asked for in vain
};

/// Everything that kernels of a cache work on, by address. Passed by value.
struct CacheMemory {
  PagePool pool;
  LaneState* lanes = nullptr;       ///< [sequence][lane]
  std::uint32_t* tables = nullptr;  ///< [sequence][lane][table_pages]
  std::uint8_t* states = nullptr;   ///< [sequence][lane][max_granules], as host::GranuleState
  std::uint8_t* plans = nullptr;    ///< [sequence][lane][max_granules]: moves of the slow clock
  /// [sequence][lane][level][leaving_words()]: bits of the slots whose codes the slow clock drops.
  std::uint32_t* leaving = nullptr;
  float* importance = nullptr;    ///< [sequence][lane][row_elements], sums of q² by channel
  float* means = nullptr;         ///< [sequence][lane][row_elements], of the first values
  std::uint32_t* pins = nullptr;  ///< [sequence][pin_words]
  /// [sequence][lane][max_granules]: low half of the step of the last freeze; not on the ladder,
  /// where no recovery asks for it.
  std::uint16_t* changed = nullptr;
  GranuleTimer* timers = nullptr;  ///< [sequence][lane][max_granules], for schedulers that sleep
  /// [sequence][lane][alarm_count()]: no sleeper of so many granules is due before that step.
  std::uint32_t* alarms = nullptr;
  /// [sequence][lane][max_granules]: counters at the last two checkpoints, for triggers that rewind
  /// where rows sleep.
  SavedCounts* saved = nullptr;
  void* scores = nullptr;  ///< [sequence][lane][max_granules], states of a scorer's
  /// [sequence][lane][window_queries + 1][lane_queries][head_dim], octaves, for scorers of queries:
  /// that of the row at position p is entry p % (window_queries + 1).
  float* ring = nullptr;
  float* previous = nullptr;  ///< [sequence][lane][lane_queries][head_dim], for their cosine
  /// [sequence][lane][max_granules], where rows stay in place: the exact granules, dense.
  std::uint32_t* lists = nullptr;
  float* moments = nullptr;       ///< [sequence][lane][KV head], each as in LaneMoments
  float* lone_scores = nullptr;   ///< [sequence][lane][max_granules], of exact rows by position
  float* lag_scores = nullptr;    ///< [sequence][lane][2][max_granules], where chunks are ranked
  float* mean_entropy = nullptr;  ///< [sequence], of the lanes' entropies, bits
  std::byte* const* tier =
      nullptr;                  ///< [sequence]: [lane][granule][K, V] in pinned memory, or null
  detail::SpilledRows spilled;  ///< where rows may be in a lower tier
};

/// Floats of a lane's moments: a direction for each KV head, two means for each query head.
KVFREEZE_HD inline std::size_t moment_floats(Geometry const& g) noexcept {
  return static_cast<std::size_t>(g.row_elements) +
         2 * static_cast<std::size_t>(g.lane_queries * g.head_dim);
}

/// Words of a level's bits, one for each code that there may be.
KVFREEZE_HD constexpr int leaving_words(Geometry const& g) noexcept {
  return (g.max_granules + 31) / 32;
}

/// Granules whose sleepers have an alarm in common.
inline constexpr int alarm_granules = 64;

/// Alarms of a lane.
KVFREEZE_HD constexpr int alarm_count(int granules) noexcept {
  return (granules + alarm_granules - 1) / alarm_granules;
}

/// Granules of so many rows.
template <class C>
KVFREEZE_HD constexpr int granules_of(int rows) noexcept {
  return (rows + C::page - 1) / C::page;
}

/// Verdicts on so many granules, of which the newest few may lack others.
template <class C>
KVFREEZE_HD constexpr int verdicts_of(int granules) noexcept {
  return (granules + C::span - 1) / C::span;
}

/// @brief A lane by address. Cheap to make; owns nothing.
template <class C>
struct LaneRef {
  using Value = typename C::Value;

  Geometry const* geometry = nullptr;
  LaneState* lane = nullptr;
  std::uint32_t* table = nullptr;
  std::byte* pages = nullptr;
  std::uint8_t* states = nullptr;
  std::uint8_t* plans = nullptr;
  std::uint32_t* leaving_bits = nullptr;  ///< null without compact rows
  float* importance = nullptr;
  float* means = nullptr;
  std::uint32_t const* pins = nullptr;          ///< of the sequence
  std::uint16_t* changed = nullptr;             ///< null on the ladder
  GranuleTimer* timers = nullptr;               ///< null unless rows sleep
  std::uint32_t* alarms = nullptr;              ///< likewise
  SavedCounts* saved = nullptr;                 ///< null unless there are checkpoints of timers
  typename C::Scorer::State* scores = nullptr;  ///< null unless the scorer remembers
  float* ring = nullptr;                        ///< null unless queries are kept
  float* previous = nullptr;                    ///< null unless their cosine is asked for
  std::uint32_t* list = nullptr;                ///< null unless rows stay in place
  float* moments = nullptr;                     ///< null unless the scorer rates rows
  float* lone_scores = nullptr;                 ///< null unless scores are listed
  float* lag_scores = nullptr;                  ///< null unless chunks are ranked
  float const* mean_entropy = nullptr;          ///< of the sequence; null unless it is asked for
  std::byte* tier = nullptr;  ///< the lane's granules; null unless rows are stored in one piece
  detail::SpilledRows const* spilled = nullptr;  ///< null unless rows may be in a lower tier
  std::uint32_t stored_lane = 0;                 ///< likewise: the lane's number among all

  __device__ LaneRef(Geometry const& g, CacheMemory const& memory, std::uint32_t sequence,
                     std::uint32_t index)
      : geometry(&g) {
    std::size_t const number =
        static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.lanes) + index;
    lane = memory.lanes + number;
    table = memory.tables + number * g.table_pages;
    pages = memory.pool.base;
    states = memory.states + number * static_cast<std::size_t>(g.max_granules);
    plans = memory.plans + number * static_cast<std::size_t>(g.max_granules);
    if constexpr (C::has_levels) {
      leaving_bits =
          memory.leaving + number * static_cast<std::size_t>(C::levels * leaving_words(g));
    }
    importance = memory.importance + number * static_cast<std::size_t>(g.row_elements);
    means = memory.means + number * static_cast<std::size_t>(g.row_elements);
    pins = memory.pins + static_cast<std::size_t>(sequence) * static_cast<std::size_t>(g.pin_words);
    if constexpr (!C::has_levels) {
      changed = memory.changed + number * static_cast<std::size_t>(g.max_granules);
    }
    if constexpr (C::sleeps) {
      timers = memory.timers + number * static_cast<std::size_t>(g.max_granules);
      alarms = memory.alarms + number * static_cast<std::size_t>(alarm_count(g.max_granules));
    }
    if constexpr (C::saves_counts) {
      saved = memory.saved + number * static_cast<std::size_t>(g.max_granules);
    }
    if constexpr (C::has_state) {
      scores = static_cast<typename C::Scorer::State*>(memory.scores) +
               number * static_cast<std::size_t>(g.max_granules);
    }
    if constexpr (C::needs_queries) {
      ring = memory.ring + number * static_cast<std::size_t>(g.window_queries + 1) *
                               static_cast<std::size_t>(g.lane_queries * g.head_dim);
    }
    if constexpr (C::needs_cosine) {
      previous = memory.previous + number * static_cast<std::size_t>(g.lane_queries * g.head_dim);
    }
    if constexpr (C::in_place) {
      list = memory.lists + number * static_cast<std::size_t>(g.max_granules);
    }
    if constexpr (C::rates) {
      moments = memory.moments + number * moment_floats(g);
    }
    if constexpr (C::lists_scores) {
      lone_scores = memory.lone_scores + number * static_cast<std::size_t>(g.max_granules);
    }
    if constexpr (C::lags) {
      lag_scores = memory.lag_scores + 2 * number * static_cast<std::size_t>(g.max_granules);
    }
    if constexpr (C::needs_entropy) {
      mean_entropy = memory.mean_entropy + sequence;
    }
    if constexpr (C::spills) {
      spilled = &memory.spilled;
      stored_lane = static_cast<std::uint32_t>(number);
    } else if constexpr (C::stores) {
      tier = memory.tier[sequence] + static_cast<std::size_t>(index) *
                                         static_cast<std::size_t>(g.max_granules) *
                                         g.granule_bytes();
    }
  }

  /// The page with the entry `i` of a segment.
  [[nodiscard]] __device__ std::byte* page(int segment, std::uint32_t i) const {
    SegmentGeometry const& s = geometry->segment[segment];
    return pages +
           static_cast<std::size_t>(table[s.first_page + i / s.per_page]) * geometry->page_bytes;
  }

  /// Where the granule of a slot lies among the lane's: in place, where its number says.
  [[nodiscard]] __device__ std::uint32_t place(std::uint32_t slot) const {
    if constexpr (C::in_place) {
      return list[slot];
    } else {
      return slot;
    }
  }

  [[nodiscard]] __device__ Value* k_at(std::uint32_t place) const {
    return reinterpret_cast<Value*>(page(rows_segment, place) +
                                    place % page_granules * geometry->part_bytes);
  }

  [[nodiscard]] __device__ Value* v_at(std::uint32_t place) const {
    return reinterpret_cast<Value*>(reinterpret_cast<std::byte*>(k_at(place)) +
                                    geometry->values_offset);
  }

  /// K of the row in row-slot `place`, of which a granule has C::page.
  [[nodiscard]] __device__ Value* row_k_at(std::uint32_t place) const {
    return k_at(place / rows_each) +
           static_cast<std::ptrdiff_t>(place % rows_each) * geometry->row_elements;
  }

  [[nodiscard]] __device__ Value* row_v_at(std::uint32_t place) const {
    return v_at(place / rows_each) +
           static_cast<std::ptrdiff_t>(place % rows_each) * geometry->row_elements;
  }

  [[nodiscard]] __device__ Value* k(std::uint32_t slot) const { return k_at(place(slot)); }

  [[nodiscard]] __device__ Value* v(std::uint32_t slot) const { return v_at(place(slot)); }

  [[nodiscard]] __device__ host::SlotRecord& record_at(std::uint32_t place) const {
    return reinterpret_cast<host::SlotRecord*>(page(rows_segment, place) +
                                               geometry->records_offset)[place % page_granules];
  }

  [[nodiscard]] __device__ host::SlotRecord& record(std::uint32_t slot) const {
    return record_at(place(slot));
  }

  /// Sum of |q.k| over the window's queries, of one of a slot's rows, in units of 2^-12 nats.
  [[nodiscard]] __device__ std::uint32_t& sum(std::uint32_t slot, int row) const {
    std::uint32_t const at = place(slot);
    return reinterpret_cast<std::uint32_t*>(
        page(rows_segment, at) +
        geometry->sums_offset)[at % page_granules * rows_each + static_cast<std::uint32_t>(row)];
  }

  /// Queries of the step that appended the row at a position.
  [[nodiscard]] __device__ float* query_of(int position) const {
    return ring + static_cast<std::ptrdiff_t>(position % (geometry->window_queries + 1)) *
                      geometry->lane_queries * geometry->head_dim;
  }

  /// Digest of a group, of one of the lane's KV heads.
  [[nodiscard]] __device__ std::byte* digest(std::uint32_t group, int head) const {
    return page(digests_segment, group) +
           group % geometry->segment[digests_segment].per_page * geometry->digest_group_bytes +
           static_cast<std::size_t>(head) * geometry->digest_bytes;
  }

  /// What there is in a slot of a compact level.
  [[nodiscard]] __device__ detail::CodeSlot<C> code(int level, std::uint32_t slot) const {
    Divisor const per_page = geometry->segment[pool_segment(level)].per_page;
    return {page(pool_segment(level), slot), geometry->pool[level], per_page, slot % per_page};
  }

  /// Bits of a level's slots whose codes the slow clock drops; at other times none is set.
  [[nodiscard]] __device__ std::uint32_t* leaving(int level) const {
    return leaving_bits + level * leaving_words(*geometry);
  }

  /// By any thread, at the same time as others.
  __device__ void mark_leaving(int level, std::uint32_t slot) const {
    atomicOr(leaving(level) + slot / 32, 1U << (slot % 32));
  }

  __device__ void unmark_leaving(int level, std::uint32_t slot) const {
    atomicAnd(leaving(level) + slot / 32, ~(1U << (slot % 32)));
  }

  /// K of a granule in the tier; its V lies behind. Null where it is not in pinned memory.
  [[nodiscard]] __device__ std::byte* stored(std::uint32_t granule) const {
    if constexpr (C::spills) {
      return spilled->slots.address(stored_lane, granule);
    } else {
      return tier + static_cast<std::size_t>(granule) * geometry->granule_bytes();
    }
  }

  /// @brief May stored(granule) be read? The step needs it: where it may not, it is fetched for a
  /// later one. The same for all granules that share a verdict.
  /// @param urgent must it be exact?
  [[nodiscard]] __device__ bool is_here(std::uint32_t granule, bool urgent = false) const {
    if constexpr (C::spills) {
      return spilled->ask(stored_lane, granule, urgent);
    } else {
      return true;
    }
  }

  /// Has the tier room for the granules [begin, end), of which rows are about to be appended?
  [[nodiscard]] __device__ bool has_room_for(std::uint32_t begin, std::uint32_t end) const {
    bool room = true;
    if constexpr (C::spills) {
      for (std::uint32_t at = begin; at < end;
           at = ((at >> spilled->slots.block_shift) + 1) << spilled->slots.block_shift) {
        room = room && spilled->slots.address(stored_lane, at) != nullptr;
      }
    }
    return room;
  }

  /// Granules [low, high) may freeze unless they are pinned.
  struct Open {
    int low;
    int high;
  };

  [[nodiscard]] __device__ int granules() const { return granules_of<C>(lane->rows); }

  /// Rows that a granule has by now.
  [[nodiscard]] __device__ int rows_of(std::uint32_t granule) const {
    return min(C::page, lane->rows - static_cast<int>(granule) * C::page);
  }

  /// Has the newest granule room for rows? It is exact then, and in the last slot.
  [[nodiscard]] __device__ bool is_filling() const { return lane->rows % C::page != 0; }

  /// First granule whose keys are not in a digest.
  [[nodiscard]] __device__ int tail_begin() const {
    return C::has_digest ? lane->groups * C::tail_granules : max(granules() - 1, 0);
  }

  /// First row whose key is not in a digest.
  [[nodiscard]] __device__ int tail_row() const { return tail_begin() * C::page; }

  [[nodiscard]] __device__ Open open_range() const {
    int const newest = first_of_span(max(lane->rows - geometry->window, 0) / C::page);
    int const high = min(newest, tail_begin());
    return {min(behind_sinks(), high), high};
  }

  /// First granule behind the sinks and what shares their verdict.
  [[nodiscard]] __device__ int behind_sinks() const {
    return (geometry->sinks + C::page * C::span - 1) / (C::page * C::span) * C::span;
  }

  /// First of the granules that have a verdict in common with this one.
  [[nodiscard]] static __device__ int first_of_span(int granule) {
    return granule - granule % C::span;
  }

  /// Has the caller pinned one of so many rows from a position on, within a granule, or one that
  /// shares their verdict?
  [[nodiscard]] __device__ bool is_pinned(std::uint32_t position, int rows = 1) const {
    if constexpr (C::span > 1) {
      position -= position % C::span;
      rows = C::span;
    }
    return (pins[1 + position / 32] >> (position % 32) & ((1U << rows) - 1U)) != 0;
  }

  /// Verdicts of granules [low, high) that are pinned with one of their rows, all of which are
  /// there. By one thread; O(1) where nothing is pinned.
  [[nodiscard]] __device__ int pinned_between(int low, int high) const {
    constexpr int each = 32 / C::page;  // granules of a word
    int count = 0;
    for (int word = low / each; pins[0] != 0 && word * each < high; ++word) {
      std::uint32_t bits = first_bits(pins[1 + word]);
      bits &= word * each < low ? ~0U << (low % each * C::page) : ~0U;
      bits &= word * each + each > high ? (1U << (high % each * C::page)) - 1U : ~0U;
      count += __popc(bits);
    }
    return count;
  }

  /// State of a granule when so many of its rows are appended, from a position on.
  [[nodiscard]] __device__ std::uint8_t newborn(std::uint32_t position, int rows = 1) const {
    constexpr auto fresh = static_cast<std::uint8_t>(static_cast<std::uint8_t>(Fidelity::exact) |
                                                     host::GranuleState::clean);
    std::uint8_t const state = position % rows_each == 0 ? fresh : states[position / rows_each];
    return is_pinned(position, rows) ? static_cast<std::uint8_t>(state | host::GranuleState::pinned)
                                     : state;
  }

  /// May an exact granule freeze?
  [[nodiscard]] __device__ bool may_freeze(std::uint32_t granule, Open open) const {
    auto const at = static_cast<int>(granule);
    return at >= open.low && at < open.high && (states[granule] & host::GranuleState::pinned) == 0;
  }

  __device__ void freeze(std::uint32_t granule) const {
    states[granule] = host::GranuleState::with(states[granule], Fidelity::frozen);
  }

  /// Compact granules of all levels.
  [[nodiscard]] __device__ int compact() const {
    int sum = 0;
    for (int level = 0; level < C::levels; ++level) {
      sum += lane->codes[level];
    }
    return sum;
  }

 private:
  static constexpr auto rows_each = static_cast<std::uint32_t>(C::page);
  static constexpr std::uint32_t page_granules = detail::page_rows / rows_each;

  /// Of the bits of each verdict's rows the lowest, set if any of them is.
  static __device__ std::uint32_t first_bits(std::uint32_t bits) {
    constexpr int rows = C::page * C::span;
    if constexpr (rows > 1) {
      bits |= bits >> 1;
      bits |= bits >> 2;
      if constexpr (rows == 16) {
        bits |= bits >> 4;
        bits |= bits >> 8;
      }
      bits &= rows == 4 ? 0x11111111U : 0x00010001U;
    }
    return bits;
  }
};

namespace detail {

/// Granules that have room in the pages of exact rows: those that are exact, in place all.
template <class C>
KVFREEZE_HD int placed_granules(LaneState const& lane) noexcept {
  return C::in_place ? granules_of<C>(lane.rows) : lane.slots;
}

/// Rows of a lane's exact granules: the newest one, which is exact, may lack some.
template <class C>
KVFREEZE_HD int exact_rows(LaneState const& lane) noexcept {
  return lane.slots * C::page - (granules_of<C>(lane.rows) * C::page - lane.rows);
}

/// Frozen and awake?
__device__ inline bool is_frozen(std::uint8_t state) {
  return host::GranuleState::fidelity(state) == Fidelity::frozen;
}

/// The state of a granule that has come back from the tier: nobody waits for it any more.
__device__ inline std::uint8_t thawed(std::uint8_t state) {
  constexpr std::uint8_t waits = host::GranuleState::forced | host::GranuleState::carried;
  return static_cast<std::uint8_t>(host::GranuleState::with(state, Fidelity::exact) & ~waits);
}

/// @brief Makes sure that a segment has pages for `entries` entries. By one thread of the lane's
/// block.
/// @return false if the lane's budget or the pool has none left: the segment then has what it had
template <class C>
__device__ bool grow(LaneRef<C> const& ref, PagePool const& pool, int segment, int entries) {
  SegmentGeometry const& s = ref.geometry->segment[segment];
  std::uint32_t const wanted = s.pages_of(static_cast<std::uint32_t>(entries));
  std::uint32_t const held = ref.lane->pages[segment];
  if (wanted <= held) {
    return true;
  }
  std::uint32_t all = wanted - held;
  for (std::uint32_t const pages : ref.lane->pages) {
    all += pages;
  }
  if (all > ref.lane->budget) {
    return false;
  }
  auto const more = static_cast<std::int32_t>(wanted - held);
  std::int32_t const left = atomicSub(pool.free_count, more) - more;
  if (left < 0) {
    atomicAdd(pool.free_count, more);
    return false;
  }
  for (std::uint32_t i = held; i < wanted; ++i) {
    ref.table[s.first_page + i] = pool.free_list[left + static_cast<std::int32_t>(i - held)];
  }
  ref.lane->pages[segment] = wanted;
  return true;
}

/// @brief Gives back a segment's pages but for the first `wanted`. By one thread, in a launch that
/// takes none.
template <class C>
__device__ void give_back(LaneRef<C> const& ref, PagePool const& pool, int segment,
                          std::uint32_t wanted) {
  SegmentGeometry const& s = ref.geometry->segment[segment];
  std::uint32_t const held = ref.lane->pages[segment];
  if (wanted >= held) {
    return;
  }
  std::int32_t const at = atomicAdd(pool.free_count, static_cast<std::int32_t>(held - wanted));
  for (std::uint32_t i = wanted; i < held; ++i) {
    pool.free_list[at + static_cast<std::int32_t>(i - wanted)] = ref.table[s.first_page + i];
  }
  ref.lane->pages[segment] = wanted;
}

/// Gives back the pages that `entries` entries do not need. As give_back().
template <class C>
__device__ void shrink(LaneRef<C> const& ref, PagePool const& pool, int segment, int entries) {
  give_back(ref, pool, segment,
            ref.geometry->segment[segment].pages_of(static_cast<std::uint32_t>(entries)));
}

}  // namespace detail

}  // namespace kvfreeze::gpu
