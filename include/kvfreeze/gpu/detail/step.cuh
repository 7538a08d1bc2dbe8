#pragma once

/// @file
/// @brief One layer's step over a batch: who takes part, and the work space of each lane.

#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/detail/coded_logits.cuh>
#include <kvfreeze/gpu/digest_lane.cuh>
#include <kvfreeze/gpu/lane.cuh>
#include <kvfreeze/gpu/logit_run.cuh>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kvfreeze::gpu::detail {

/// A lane's rows by where they are: the digests' (frozen rows take part), the exact ones in slot
/// order, then the pools'. Logits and masses of a run lie side by side, from a multiple of 32 on;
/// but logits of the pools are elsewhere.
struct LaneRuns {
  float* logits = nullptr;  ///< `logits[h * stride + begin[run] + i]`, octaves
  std::ptrdiff_t stride = 0;
  CodedLogits coded;                  ///< of the pools, of row begin[run] - begin[pool(0)] + i
  Mass* masses = nullptr;             ///< [stride]
  std::uint32_t* granules = nullptr;  ///< [stride], of exact and compact rows; first, by row of the
                                      ///< digests, CodePlace of those that are compact
  int begin[2 + most_levels] = {};
  int rows[2 + most_levels] = {};

  static constexpr int digests = 0;
  static constexpr int exact = 1;

  [[nodiscard]] static KVFREEZE_HD constexpr int pool(int level) noexcept { return 2 + level; }

  /// A pool's first row among those of all pools.
  [[nodiscard]] __device__ std::uint32_t first_coded(int level) const {
    return static_cast<std::uint32_t>(begin[pool(level)] - begin[pool(0)]);
  }
};

/// Where a compact row's code is, as a word.
struct CodePlace {
  std::uint32_t slot : 24;
  std::uint32_t level : 8;

  [[nodiscard]] __device__ static CodePlace of(std::uint32_t word) {
    return {word & 0xFFFFFFU, word >> 24};
  }

  [[nodiscard]] __device__ std::uint32_t word() const { return level << 24 | slot; }
};

/// Attention's description of a lane of C: its element type and the bits of its levels.
template <class C, class Levels = std::make_index_sequence<static_cast<std::size_t>(C::levels)>>
struct AttentionOf;

template <class C, std::size_t... Level>
struct AttentionOf<C, std::index_sequence<Level...>> {
  using Lane = AttentionLane<typename C::Value, C::CompactRows::value_bits[Level]...>;
  using Lanes = AttentionLanes<typename C::Value, C::CompactRows::value_bits[Level]...>;
};

/// What a ranking of a layer's rows is for.
enum class Pass : std::uint8_t {
  decode,     ///< one token: what its query needs rises, what was not needed sinks
  look,       ///< a chunk's last query: does the ladder pay for the lane?
  vote,       ///< one of a chunk's last queries says what it needs
  last_vote,  ///< and what none of them needed sinks
};

/// @brief One layer's step, as kernels are told of it. Lanes of the batch are numbered sequence by
/// sequence: work lane w is head w % lanes_per_layer of the batch's sequence w / lanes_per_layer.
template <class C>
struct LayerStep {
  using Lane = typename AttentionOf<C>::Lane;

  std::uint32_t const* batch = nullptr;  ///< [sequences] that take part
  std::uint32_t const* steps = nullptr;  ///< [max_sequences] finished steps
  int layer = 0;
  Pass pass = Pass::decode;
  int lanes = 0;                         ///< work lanes
  float* queries = nullptr;              ///< [work lane][lane_queries][head_dim], octaves
  float* logits = nullptr;               ///< [work lane][lane_queries][stride]
  CodedLogits coded;                     ///< [work lane][stride - digest_rows]
  Mass* masses = nullptr;                ///< [work lane][stride]
  std::uint32_t* granules = nullptr;     ///< [work lane][stride]
  float* highest = nullptr;              ///< [work lane][lane_queries], largest logits
  float* absent = nullptr;               ///< [work lane][lane_queries], weights of absent rows
  std::ptrdiff_t stride = 0;             ///< floats of a head's logits
  int digest_rows = 0;                   ///< room for rows of digests, a multiple of 64
  DigestLane* scans = nullptr;           ///< [work lane][KV head of it]
  Lane* attention = nullptr;             ///< [work lane][KV head of it]
  Lane* tails = nullptr;                 ///< likewise, rows that no digest holds
  std::uint32_t* ranked_rows = nullptr;  ///< likewise, exact rows whose logits ranking needs
  std::uint32_t* attended = nullptr;     ///< [run][work lane][KV head of it], rows attention reads
  std::uint32_t* work = nullptr;         ///< [work lane], rank_work(); 0: nothing is ranked
  int heads = 1;                         ///< KV heads of a lane

  /// Rows of a run that attention reads for a lane's KV head.
  [[nodiscard]] __device__ std::uint32_t& attended_rows(int run, int lane, int head) const {
    return attended[(run * lanes + lane) * heads + head];
  }
};

/// A work lane of a layer's step.
struct WorkLane {
  std::uint32_t sequence = 0;
  std::uint32_t lane = 0;  ///< within the sequence
  int head = 0;            ///< within the layer
  std::uint32_t step = 0;

  template <class C>
  __device__ WorkLane(Geometry const& g, LayerStep<C> const& s, int work) {
    head = work % g.lanes_per_layer;
    sequence = s.batch[work / g.lanes_per_layer];
    lane = static_cast<std::uint32_t>(s.layer * g.lanes_per_layer + head);
    step = s.steps[sequence];
  }
};

/// Where a lane's logits and masses are.
template <class C>
__device__ LaneRuns lane_runs(LaneRef<C> const& ref, LayerStep<C> const& s, int work) {
  LaneRuns runs;
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(work) * s.stride;
  runs.stride = s.stride;
  runs.logits = s.logits + first * ref.geometry->lane_queries;
  if constexpr (C::has_levels) {
    runs.coded = s.coded;
    runs.coded.base = s.coded.row(static_cast<std::size_t>(work) *
                                  static_cast<std::size_t>(s.stride - s.digest_rows));
  }
  runs.masses = s.masses + first;
  runs.granules = s.granules + first;
  int at = s.digest_rows;
  auto const place = [&](int run, int rows) {
    runs.begin[run] = at;
    runs.rows[run] = rows;
    at += (rows + 31) / 32 * 32;
  };
  runs.rows[LaneRuns::digests] = ref.lane->groups * C::Digest::group_rows;
  for (int level = 0; level < C::levels; ++level) {
    place(LaneRuns::pool(level), ref.lane->codes[level]);
  }
  place(LaneRuns::exact, ref.lane->slots);
  return runs;
}

/// Room for the rows of a lane's digests.
constexpr int digest_rows_of(int max_tokens) { return (max_tokens + 63) / 64 * 64; }

/// Floats of a head's logits that hold a lane of so many rows: its digests, and its codes and exact
/// rows, which are different ones. Nobody asks for the logits of rows that rise.
template <class C>
constexpr std::ptrdiff_t logits_stride(int max_tokens) {
  return 2 * static_cast<std::ptrdiff_t>(digest_rows_of(max_tokens)) + 32 * (1 + C::levels);
}

/// @brief What it takes to rank a lane, in rounds of a block: more blocks than these would have
/// nothing to do.
KVFREEZE_HD constexpr std::uint32_t rank_work(int groups, int exact, int compact) {
  return static_cast<std::uint32_t>((groups + 7) / 8 + (exact + 63) / 64 + (compact + 255) / 256);
}

/// @brief The lanes of a layer's step as LaneTiles finds them.
template <class C>
struct LadderLanes {
  Geometry const& geometry;
  CacheMemory const& memory;
  LayerStep<C> const& step;

  [[nodiscard]] __device__ int runs(int) const { return 2 + C::levels; }

  [[nodiscard]] __device__ LogitRun run(int work, int i) const {
    WorkLane const where(geometry, step, work);
    LaneRef<C> const lane(geometry, memory, where.sequence, where.lane);
    LaneRuns const all = lane_runs(lane, step, work);
    int begin = 0;
    LogitRun run;
#pragma unroll
    for (int r = 0; r < 2 + C::levels; ++r) {  // not by the index: arrays stay in registers
      begin = r == i ? all.begin[r] : begin;
      run.rows = r == i ? all.rows[r] : run.rows;
    }
    if (C::has_levels && i >= LaneRuns::pool(0)) {
      run.logits = all.coded.row(static_cast<std::size_t>(begin - all.begin[LaneRuns::pool(0)]));
      run.stride = all.coded.width > 1 ? 1 : all.stride;  // so that loads of one head are aligned
      run.row_stride = static_cast<std::ptrdiff_t>(all.coded.width);
    } else {
      run.logits = all.logits + begin;
      run.stride = all.stride;
    }
    run.masses = all.masses + begin;
    if (i == LaneRuns::digests) {
      run.states = lane.states;
      run.frozen_only = true;
    } else if (i == LaneRuns::exact) {
      auto const open = lane.open_range();
      run.states = lane.states;
      run.positions = all.granules + begin;
      run.low = open.low;
      run.high = open.high;
      run.hidden = host::GranuleState::pinned;
      run.protects = true;
    }
    return run;
  }
};

/// What the slow clock will do with a granule: a byte of the lane's `plans`.
struct Plan {
  static constexpr std::uint8_t level_mask = 0x07;   ///< where it goes, plus 1; 0: it stays
  static constexpr std::uint8_t leaves_pool = 0x10;  ///< its code goes
  static constexpr std::uint8_t guest = 0x20;        ///< its exact row is behind the lane's slots

  static KVFREEZE_HD constexpr std::uint8_t to(int level) noexcept {
    return static_cast<std::uint8_t>(level + 1);
  }

  /// Level that the plan ends at; -1: none.
  static KVFREEZE_HD constexpr int level(std::uint8_t plan) noexcept {
    return static_cast<int>(plan & level_mask) - 1;
  }
};

}  // namespace kvfreeze::gpu::detail
