#pragma once

/// @file
/// @brief What is saved of a sequence beside its rows, as an archive takes it: a BlockWriter or
/// BlockBytes.

#include <kvfreeze/detail/object_bytes.hpp>
#include <kvfreeze/host/code_pools.hpp>
#include <kvfreeze/host/query_window.hpp>
#include <kvfreeze/host/session_blocks.hpp>
#include <kvfreeze/policy_traits.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace kvfreeze::host {

template <class Archive, class... Numbers>
void exchange(Archive& archive, Numbers&... numbers) {
  (archive.number(numbers), ...);
}

template <class Archive, BlockNumber T, std::size_t N>
void exchange(Archive& archive, std::array<T, N>& numbers) {
  for (T& number : numbers) {
    archive.number(number);
  }
}

/// A flag as a byte.
template <class Archive>
void exchange_flag(Archive& archive, bool& flag) {
  std::uint8_t byte = flag ? 1 : 0;
  archive.number(byte);
  flag = byte != 0;
}

/// A number of bytes.
template <class Archive>
void exchange_bytes(Archive& archive, std::size_t& bytes) {
  std::uint64_t wide = bytes == unlimited ? std::numeric_limits<std::uint64_t>::max() : bytes;
  archive.number(wide);
  bytes = wide > unlimited ? unlimited : static_cast<std::size_t>(wide);
}

/// What a lane knows, but for what follows from its rows.
template <class C, class Archive>
void exchange_lane(Archive& archive, Lane<C>& lane) {
  bool recalled = lane.ready == lane.rows;
  exchange_flag(archive, lane.ordered);
  exchange_flag(archive, recalled);
  lane.ready = recalled ? lane.rows : -1;
  exchange(archive, lane.owed, lane.cosine, lane.queries, lane.held, lane.next_wake,
           lane.ladder_cost, lane.next_look, lane.weighed, lane.deferred);
  if constexpr (C::needs_entropy) {
    exchange(archive, lane.entropy.mean, lane.entropy.queries);
  }
  if constexpr (C::rates) {
    archive.number(lane.moments.queries);
  }
  if constexpr (C::needs_layer_parts) {
    archive.number(lane.layer_part.value);
  }
  if constexpr (C::needs_sequence_shares) {
    archive.number(lane.share.value);
  }
  exchange(archive, lane.least);
  exchange(archive, lane.demand);
  for (std::size_t level = 0; level < C::levels; ++level) {
    exchange_flag(archive, lane.pools[level].consecutive);
  }
}

/// What a lane was left by the caps: in force again where the caps and the company are the same.
struct LanePlan {
  std::size_t budget = unlimited;
  std::size_t aim = unlimited;
  std::size_t allotment = unlimited;
  ArenaBlocks blocks{};
};

template <class Archive>
void exchange_plan(Archive& archive, LanePlan& plan) {
  exchange_bytes(archive, plan.budget);
  exchange_bytes(archive, plan.aim);
  exchange_bytes(archive, plan.allotment);
  exchange(archive, plan.blocks);
}

/// A sequence's own numbers.
template <class C, class Archive>
void exchange_sequence(Archive& archive, SequenceRecord<C>& sequence, std::size_t& transfer_bytes) {
  exchange(archive, sequence.length, sequence.step, sequence.water_level, sequence.entropy_mean,
           sequence.entropies);
  if constexpr (C::needs_entropy) {
    archive.number(sequence.lane_entropy);
  }
  exchange(archive, sequence.checkpoints);
  exchange_bytes(archive, sequence.share);
  exchange_bytes(archive, transfer_bytes);
}

/// One granule's metadata, behind its state byte.
template <class C, class Archive>
void exchange_granule(Archive& archive, LaneRef<C> const& ref, std::uint32_t granule,
                      std::uint32_t& wake) {
  [[maybe_unused]] auto const i = granule % tile_granules;
  [[maybe_unused]] auto& tile = ref.tile(granule);
  if constexpr (!C::has_levels && !C::discards) {
    archive.number(tile.changed[i]);
  }
  if constexpr (C::has_state && !C::scores_in_slots) {
    archive.bytes(&tile.score[i], sizeof tile.score[i]);
  }
  if constexpr (C::sleeps) {
    Timer& timer = tile.timer[i];
    exchange(archive, timer.count, timer.last);
    exchange(archive, timer.saved);
    archive.number(wake);
  }
}

/// What a lane keeps of its queries.
template <class C, class Archive>
void exchange_queries(Archive& archive, LaneJob<C> const& job) {
  [[maybe_unused]] Geometry const& g = job.geometry();
  [[maybe_unused]] std::size_t const floats = static_cast<std::size_t>(g.lane_queries) *
                                              static_cast<std::size_t>(g.shape.head_dim) *
                                              sizeof(float);
  if constexpr (C::needs_queries) {
    for (int age = 0; age < job.lane().held; ++age) {
      archive.number(ring_position(job, age));
      archive.bytes(ring_entry(job, age), floats);
    }
  }
  if constexpr (C::needs_cosine) {
    archive.bytes(job.ref.previous, floats);
  }
  if constexpr (C::rates) {
    archive.bytes(job.ref.moments,
                  2 * floats + static_cast<std::size_t>(g.row_elements) * sizeof(float));
  }
  if constexpr (C::weighs) {
    archive.bytes(job.ref.importance, static_cast<std::size_t>(g.row_elements) * sizeof(float));
  }
}

/// Bytes of a lane's digests and mean values.
template <class C>
std::size_t saved_digest_bytes(Geometry const& g, int groups) noexcept {
  return groups > 0 ? g.means_bytes + static_cast<std::size_t>(groups) * g.digest_group_bytes : 0;
}

/// Bytes of a granule's code at a level: number and stamp, then row by row and head by head.
template <class C>
std::size_t saved_code_bytes(Geometry const& g, std::size_t level) noexcept {
  PoolGeometry const& pool = g.pools[level];
  return sizeof(std::uint32_t) + sizeof(std::uint16_t) +
         static_cast<std::size_t>(C::page * g.heads_per_lane) *
             (pool.residual_bytes + pool.value_bytes + sizeof(BFloat16));
}

/// The code rows of a pool's slot, one after the other.
/// @param f f(address, bytes)
template <class C, class F>
void for_code_rows(LaneRef<C> const& ref, std::size_t level, std::uint32_t slot, F&& f) {
  PoolGeometry const& pool = ref.geometry->pools[level];
  for (int i = 0; i < C::page; ++i) {
    int const row = static_cast<int>(slot) * C::page + i;
    for (int head = 0; head < ref.geometry->heads_per_lane; ++head) {
      f(code_row(residual_rows(ref, level, head), row), pool.residual_bytes);
      f(code_row(value_rows(ref, level, head), row), pool.value_bytes);
      f(code_row(scale_rows(ref, level, head), row), sizeof(BFloat16));
    }
  }
}

/// A trigger's memory.
template <class T>
  requires kvfreeze::detail::SavableTrigger<T>
std::vector<std::byte> trigger_bytes(T const& trigger) {
  if constexpr (kvfreeze::detail::SavesItsMemory<T>) {
    return trigger.save();
  } else {
    auto const bytes = kvfreeze::detail::object_bytes(trigger);
    return {bytes.begin(), bytes.end()};
  }
}

/// @throws FormatError, or what the trigger throws
template <class T>
  requires kvfreeze::detail::SavableTrigger<T>
void set_trigger(T& trigger, std::span<std::byte const> bytes) {
  if constexpr (kvfreeze::detail::SavesItsMemory<T>) {
    trigger.restore(bytes);
  } else if (bytes.size() != sizeof trigger) {
    throw FormatError("restore(): the trigger's memory has " + std::to_string(bytes.size()) +
                      " bytes, this one's has " + std::to_string(sizeof trigger));
  } else {
    std::memcpy(static_cast<void*>(&trigger), bytes.data(), bytes.size());
  }
}

}  // namespace kvfreeze::host
