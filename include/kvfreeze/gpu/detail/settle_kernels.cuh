#pragma once

/// @file
/// @brief The slow clock of each lane on the ladder: what the step's plans say, done. One block a
/// lane, one launch for the whole model.

#include <kvfreeze/gpu/detail/block_partition.cuh>
#include <kvfreeze/gpu/detail/code_rows.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Shared memory of the settling block.
template <class C, int Threads>
struct SettleStorage {
  typename BlockPartition<Threads>::Storage partition;
  typename RowCoder<C, Threads>::Storage coder;
  int added[most_levels];
  int frozen;
  int thawed;
  bool placed;
};

/// The slot `from` of a compact level takes the place of slot `to`, which leaves: its granule's
/// number changes places with it, so that those that left can be found behind. By one warp.
template <class C>
__device__ void move_code(LaneRef<C> const& ref, int level, std::uint32_t from, std::uint32_t to,
                          int lane) {
  PoolPage const& p = ref.geometry->pool[level];
  copy_bytes(ref.residual(level, from), ref.residual(level, to), p.residual_bytes, lane);
  copy_bytes(ref.values(level, from), ref.values(level, to), p.value_bytes, lane);
  if (lane == 0) {
    ref.scale(level, to) = ref.scale(level, from);
    ref.code_stamp(level, to) = ref.code_stamp(level, from);
    std::uint32_t const left = ref.code_granule(level, to);
    ref.code_granule(level, to) = ref.code_granule(level, from);
    ref.code_granule(level, from) = left;
  }
}

/// @brief Codes rows at the end of the pools, a warp each.
///
/// @param rows how many are looked at
/// @param target target(i): level to which the i-th goes, or 0
/// @param source source(i): its granule and exact rows
template <class C, int Threads, class Target, class Source>
__device__ void push_codes(LaneRef<C> const& ref, PagePool const& pool, std::uint32_t step,
                           SettleStorage<C, Threads>& shared, int rows, Target const& target,
                           Source const& source) {
  int const thread = static_cast<int>(threadIdx.x);
  int const lane = thread % 32;
  if (thread < most_levels) {
    shared.added[thread] = 0;
  }
  __syncthreads();
  for (int i = thread; i < rows; i += Threads) {
    if (int const level = target(i); level > 0) {
      atomicAdd(&shared.added[level - 1], 1);
    }
  }
  __syncthreads();
  if (thread == 0) {
    shared.placed = true;
    for (int level = 0; level < C::levels; ++level) {
      int const wanted = ref.lane->codes[level] + shared.added[level];
      shared.placed = shared.placed && grow(ref, pool, pool_segment(level), wanted);
      shared.added[level] = 0;
    }
  }
  __syncthreads();
  if (!shared.placed) {
    return;  // they freeze: the tier has them
  }
  for (int i = thread / 32; i < rows; i += Threads / 32) {
    int const to = target(i);
    if (to <= 0) {
      continue;
    }
    int const level = to - 1;
    int at = 0;
    if (lane == 0) {
      at = atomicAdd(&shared.added[level], 1);
    }
    auto const slot =
        static_cast<std::uint32_t>(ref.lane->codes[level] + __shfl_sync(0xFFFFFFFFU, at, 0));
    auto const row = source(i);
    RowCoder<C, Threads>::encode(shared.coder, ref, level, slot, row, lane);
    if (lane == 0) {
      ref.code_granule(level, slot) = row.granule;
      ref.code_stamp(level, slot) = static_cast<std::uint16_t>(step);
      std::uint8_t const state = ref.states[row.granule];
      ref.states[row.granule] = host::GranuleState::with(state, Fidelity::compact);
    }
  }
  __syncthreads();
  if (thread < C::levels) {
    ref.lane->codes[thread] += shared.added[thread];
  }
  __syncthreads();
}

/// @brief Carries out the plans of one step: codes leave their pools, rows are coded and leave
/// their slots, pages go back.
/// @param steps [max_sequences] finished steps; this one is the next
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void settle_kernel(
    Geometry g, CacheMemory memory, std::uint32_t const* batch, std::uint32_t const* steps) {
  __shared__ SettleStorage<C, Threads> shared;
  std::uint32_t const sequence = batch[blockIdx.y];
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  LaneState& lane = *ref.lane;
  if (lane.mode == LaneMode::dense) {
    return;
  }
  std::uint32_t const step = steps[sequence];
  int const thread = static_cast<int>(threadIdx.x);
  BlockPartition<Threads> partition{shared.partition};
  auto const freeze = [&](std::uint32_t granule) {
    ref.states[granule] = host::GranuleState::with(ref.states[granule], Fidelity::frozen);
  };
  if (thread == 0) {
    shared.frozen = shared.thawed = 0;
  }
  RowCoder<C, Threads>::fill(shared.coder);

  // --- codes that leave their pools: behind those that stay, until they are coded anew
  // -------------
  int held[most_levels] = {};
  for (int level = 0; level < C::levels; ++level) {
    int const codes = lane.codes[level];
    held[level] = codes;
    int const kept = partition.run(
        codes,
        [&](int i) {
          std::uint32_t const granule = ref.code_granule(level, static_cast<std::uint32_t>(i));
          return (ref.plans[granule] & Plan::leaves_pool) != 0;
        },
        [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
          move_code(ref, level, from, to, warp_lane);
        });
    __syncthreads();
    if (thread == 0) {
      lane.codes[level] = kept;
    }
    for (int i = kept + thread; i < codes; i += Threads) {
      std::uint32_t const granule = ref.code_granule(level, static_cast<std::uint32_t>(i));
      std::uint8_t const plan = ref.plans[granule];
      // Exact rows that came from here are exact already, guests are coded below.
      if (Plan::level(plan) >= 0) {
        freeze(granule);
      }
      // Only those that are coded from the tier are asked for again.
      if ((plan & Plan::guest) == 0 && (level == 0 || Plan::level(plan) <= 0)) {
        ref.plans[granule] = 0;
      }
    }
    __syncthreads();
  }
  // From pool to coarser pool a row goes by way of the tier; ascending levels, so that nothing is
  // written where those that left are still listed.
  for (int level = 1; level < C::levels; ++level) {
    int const kept = lane.codes[level];
    auto const granule_at = [&](int i) {
      return ref.code_granule(level, static_cast<std::uint32_t>(kept + i));
    };
    auto const target = [&](int i) {
      std::uint8_t const plan = ref.plans[granule_at(i)];
      return (plan & Plan::guest) == 0 ? max(Plan::level(plan), 0) : 0;
    };
    int const left = held[level] - kept;
    int coded = 0;
    for (int i = thread; i < left; i += Threads) {
      coded += target(i) > 0 ? 1 : 0;
    }
    if (coded > 0) {
      atomicAdd(&shared.thawed, coded);
    }
    push_codes(ref, memory.pool, step, shared, left, target, [&](int i) {
      std::uint32_t const granule = granule_at(i);
      auto const* const k = reinterpret_cast<typename C::Value const*>(ref.stored(granule));
      return ExactRow<C>{granule, k, k + g.row_elements};
    });
    for (int i = thread; i < left; i += Threads) {
      if (target(i) > 0) {
        ref.plans[granule_at(i)] = 0;
      }
    }
    __syncthreads();
  }
  // --- exact rows and guests that leave their slots
  // ---------------------------------------------------
  int const slots = lane.slots;
  int const all = slots + lane.guests;
  auto const plan_at = [&](int i) {
    return ref.plans[ref.record(static_cast<std::uint32_t>(i)).granule];
  };
  for (int i = thread; i < slots; i += Threads) {
    std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i)).granule;
    if (Plan::level(ref.plans[granule]) >= 0) {
      freeze(granule);
      atomicAdd(&shared.frozen, 1);
    }
  }
  // Guests that were frozen before are so still; those that left a pool became so above.
  __syncthreads();
  push_codes(
      ref, memory.pool, step, shared, all, [&](int i) { return max(Plan::level(plan_at(i)), 0); },
      [&](int i) {
        auto const slot = static_cast<std::uint32_t>(i);
        return ExactRow<C>{ref.record(slot).granule, ref.k(slot), ref.v(slot)};
      });
  std::uint32_t const tail = static_cast<std::uint32_t>(ref.tail_begin());
  int const kept = partition.run(
      all, [&](int i) { return i >= slots || Plan::level(plan_at(i)) >= 0; },
      [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
        copy_bytes(reinterpret_cast<std::byte const*>(ref.k(from)),
                   reinterpret_cast<std::byte*>(ref.k(to)), g.part_bytes, warp_lane);
        copy_bytes(reinterpret_cast<std::byte const*>(ref.v(from)),
                   reinterpret_cast<std::byte*>(ref.v(to)), g.part_bytes, warp_lane);
        if (warp_lane == 0) {
          host::SlotRecord const moved = ref.record(from);
          ref.record(from) = ref.record(to);
          ref.record(to) = moved;
          if (moved.granule >= tail) {
            lane.tail[moved.granule - tail] = to;
          }
        }
      });
  __syncthreads();
  for (int i = thread; i < all; i += Threads) {
    std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i)).granule;
    ref.plans[granule] = 0;
  }
  __syncthreads();
  if (thread == 0) {
    lane.slots = kept;
    lane.guests = 0;
    lane.frozen += static_cast<std::uint32_t>(shared.frozen);
    lane.thawed += static_cast<std::uint32_t>(shared.thawed);
    lane.moved_in += static_cast<std::uint64_t>(shared.thawed) * g.granule_bytes();
    shrink(ref, memory.pool, rows_segment, kept + 1);
    for (int level = 0; level < C::levels; ++level) {
      shrink(ref, memory.pool, pool_segment(level), lane.codes[level]);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
