#pragma once

#include <kvfreeze/host/memory.hpp>
#include <kvfreeze/report.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace kvfreeze::host {

/// What the cache keeps for one sequence beside its lanes.
template <class C>
struct SequenceRecord {
  bool open = false;
  std::uint32_t generation = 0;
  int length = 0;                    ///< tokens of finished steps
  std::uint32_t step = 0;            ///< finished steps
  std::size_t share = unlimited;     ///< bytes that this sequence may hold resident
  float water_level = 0.0F;          ///< epsilon that meets the share; 0: slack
  float lane_entropy = 0.0F;         ///< mean of the lanes' entropies of attention, bits
  float entropy_mean = 0.0F;         ///< of the logits: running mean, nats
  std::uint32_t entropies = 0;       ///< observations in it
  std::array<int, 2> checkpoints{};  ///< lengths at which the counters were saved, newest first
  std::vector<TokenRange> pins;
  typename C::Trigger trigger;
};

/// Everything that the stages of a step work on.
template <class C>
struct Context {
  Memory<C> memory;
  typename C::Scorer scorer;
  typename C::Scheduler scheduler;
  typename C::Tier tier;
  typename C::Trigger trigger;               ///< the original; each sequence has a copy
  std::array<float, water_levels> levels{};  ///< ascending epsilons from the scheduler's own to 1
  std::vector<SequenceRecord<C>> sequences{};

  [[nodiscard]] Geometry const& geometry() const noexcept { return memory.geometry(); }
};

/// One lane's work in one call: what to do it with.
template <class C>
struct LaneJob {
  Context<C>* context = nullptr;
  SequenceRecord<C>* sequence = nullptr;
  Scratch* scratch = nullptr;
  LaneRef<C> ref;
  int layer = 0;
  int head = 0;  ///< lane within the layer

  [[nodiscard]] Geometry const& geometry() const noexcept { return *ref.geometry; }

  [[nodiscard]] Lane<C>& lane() const noexcept { return *ref.lane; }

  [[nodiscard]] std::uint32_t step() const noexcept { return sequence->step; }
};

/// Lane `index` of a sequence, ready for work outside of a caller's part.
template <class C>
LaneJob<C> lane_job(Context<C>& context, std::uint32_t sequence, std::uint32_t index,
                    int part = 0) noexcept {
  auto const per_layer = static_cast<std::uint32_t>(context.geometry().lanes_per_layer);
  LaneJob<C> job;
  job.context = &context;
  job.sequence = &context.sequences[sequence];
  job.scratch = &context.memory.scratch(part);
  job.ref = context.memory.lane(sequence, index);
  job.layer = static_cast<int>(index / per_layer);
  job.head = static_cast<int>(index % per_layer);
  return job;
}

/// Is it the lane's turn in this step to let sink what it does not need?
template <class C>
bool sinks_now(Context<C> const& context, std::uint32_t sequence, std::uint32_t lane) noexcept {
  auto const period = static_cast<std::uint32_t>(kvfreeze::detail::slow_period(context.scheduler));
  return (context.sequences[sequence].step + lane) % std::max(period, 1U) == 0;
}

inline constexpr int votes = 4;  ///< last queries of a chunk that say what stays exact

/// Exact granules that a lane of `rows` rows may hold within `budget` bytes.
/// @param beside the blocks of its codes
template <class C>
int allowed_granules(Geometry const& g, std::size_t budget, int rows,
                     ArenaBlocks beside = {}) noexcept {
  if (budget == unlimited) {
    return std::numeric_limits<int>::max();
  }
  if constexpr (C::has_levels) {
    beside[arena_digests] = rows / C::Digest::group_rows;
    return g.arena.most_blocks(beside, arena_rows, g.arena_room(budget, rows)) * g.slots_per_block;
  } else {
    std::size_t const fixed =
        g.digest_bytes(rows, C::Digest::group_rows) + g.lane_tiles_bytes(rows);
    return fixed < budget ? g.blocks_within(budget - fixed) * g.slots_per_block : 0;
  }
}

/// Exact granules that the lane may hold beside its compact ones within `budget` bytes, with `rows`
/// rows.
template <class C>
int allowed_granules(LaneRef<C> const& ref, std::size_t budget, int rows) noexcept {
  return allowed_granules<C>(*ref.geometry, budget, rows,
                             C::has_levels ? ref.needed_blocks() : ArenaBlocks{});
}

/// Bytes that a lane of `rows` rows needs to hold `granules` exact ones.
/// @param coded granules at the first compact level
template <class C>
std::size_t lane_bytes(Geometry const& g, int granules, int rows, int coded = 0) noexcept {
  if constexpr (C::has_levels) {
    ArenaBlocks blocks{rows / C::Digest::group_rows, ceil_div(granules, g.slots_per_block)};
    blocks[arena_pool(0)] = ceil_div(coded, g.slots_per_block);
    return g.arena.bytes(blocks) + g.lane_tiles_bytes(rows);
  } else {
    return g.digest_bytes(rows, C::Digest::group_rows) + g.lane_tiles_bytes(rows) +
           g.rows_bytes(granules);
  }
}

}  // namespace kvfreeze::host
