#pragma once

/// @file
/// @brief The slow clock of each lane on the ladder: what the step's plans say, done. One block a
/// lane, one launch for the whole model.

#include <kvfreeze/gpu/detail/bit_partition.cuh>
#include <kvfreeze/gpu/detail/block_partition.cuh>
#include <kvfreeze/gpu/detail/code_rows.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Shared memory of the settling block.
template <class C, int Threads>
struct SettleStorage {
  union {
    typename BlockPartition<Threads>::Storage partition;
    typename BitPartition<Threads>::Storage bits;
  };

  typename RowCoder<C, Threads>::Storage coder;
  int held[most_levels];    ///< codes of each pool before any of them left
  int added[most_levels];   ///< codes at the end of each pool
  int listed[most_levels];  ///< rows on the lists
  std::uint16_t list[most_levels][Threads];
  std::uint32_t placed;  ///< were there pages? A word, as compilers load it with its neighbours
};

/// @brief What the slow clock does to one lane, and how rows are coded. By one block, which calls
/// every function together. Pages are only taken here: release_kernel() gives them back when all
/// lanes are done.
template <class C, int Threads>
struct SettleLane {
  LaneRef<C> const& ref;
  PagePool const& pool;
  std::uint32_t step;
  SettleStorage<C, Threads>& shared;

  /// The plans of the step, carried out.
  __device__ void run() const {
    LaneState& lane = *ref.lane;
    RowCoder<C, Threads>::fill(shared.coder);
    if (thread() < C::levels) {
      shared.held[thread()] = lane.codes[thread()];
    }
    __syncthreads();
    for (int level = 0; level < C::levels; ++level) {
      drop_codes(level);
    }
    int coded = 0;
    // Ascending levels: nothing is written where those that left are still listed.
    for (int level = 1; level < C::levels; ++level) {
      coded += code_from_tier(level, shared.held[level] - lane.codes[level]);
    }
    settle_exact();
    if (thread() == 0) {
      lane.thawed += static_cast<std::uint32_t>(coded);
      lane.moved_in += static_cast<std::uint64_t>(coded) * ref.geometry->granule_bytes();
    }
  }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  /// Codes that leave their pool go behind those that stay, where code_from_tier() finds them.
  __device__ void drop_codes(int level) const {
    int const codes = ref.lane->codes[level];
    std::uint32_t* const leaving = ref.leaving(level);
    BitPartition<Threads> partition{shared.bits};
    int const kept =
        partition.run(codes, leaving, [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
          move_code(ref, level, from, to, warp_lane);
        });
    if (kept == codes) {
      return;
    }
    __syncthreads();
    if (thread() == 0) {
      ref.lane->codes[level] = kept;
    }
    for (int i = thread(); 32 * i < codes; i += Threads) {
      if (leaving[i] != 0) {
        leaving[i] = 0;
      }
    }
    for (int i = kept + thread(); i < codes; i += Threads) {
      std::uint32_t const granule = ref.code(level, static_cast<std::uint32_t>(i)).granule();
      std::uint8_t const plan = ref.plans[granule];
      // Exact rows that came from here are exact already, guests are coded as they leave.
      if (Plan::level(plan) >= 0) {
        ref.freeze(granule);
      }
      // Only those that are coded from the tier are asked for again.
      if ((plan & Plan::guest) == 0 && (level == 0 || Plan::level(plan) <= 0)) {
        ref.plans[granule] = 0;
      }
    }
    __syncthreads();
  }

  /// From a pool to a coarser one a row goes by way of the tier.
  /// @param left rows that left the level's pool
  /// @return how many were coded
  __device__ int code_from_tier(int level, int left) const {
    int const kept = ref.lane->codes[level];
    auto const granule_at = [&](int i) {
      return ref.code(level, static_cast<std::uint32_t>(kept + i)).granule();
    };
    auto const target = [&](int i) {
      std::uint8_t const plan = ref.plans[granule_at(i)];
      return (plan & Plan::guest) == 0 ? max(Plan::level(plan), 0) : 0;
    };
    int const coded = push_codes(left, target, [&](int i) {
      std::uint32_t const granule = granule_at(i);
      auto const* const k = reinterpret_cast<typename C::Value const*>(ref.stored(granule));
      return ExactRow<C>{granule, k, k + ref.geometry->row_elements};
    });
    for (int i = thread(); i < left; i += Threads) {
      if (target(i) > 0) {
        ref.plans[granule_at(i)] = 0;
      }
    }
    __syncthreads();
    return coded;
  }

 public:
  /// Exact rows and guests that leave their slots: coded, if they are to be, then packed away.
  __device__ void settle_exact() const {
    LaneState& lane = *ref.lane;
    int const slots = lane.slots;
    int const all = slots + lane.guests;
    auto const granule_at = [&](int i) {
      return ref.record(static_cast<std::uint32_t>(i)).granule;
    };
    auto const plan_at = [&](int i) { return ref.plans[granule_at(i)]; };
    std::uint32_t frozen = 0;
    for (int i = thread(); i < slots; i += Threads) {
      if (Plan::level(plan_at(i)) >= 0) {
        ref.freeze(granule_at(i));
        frozen += 1;
      }
    }
    // Guests that were frozen before are so still; those that left a pool became so with it.
    frozen = block_sum(frozen, shared.partition.count);
    push_codes(
        all, [&](int i) { return max(Plan::level(plan_at(i)), 0); },
        [&](int i) {
          auto const slot = static_cast<std::uint32_t>(i);
          return ExactRow<C>{granule_at(i), ref.k(slot), ref.v(slot)};
        });
    BlockPartition<Threads> partition{shared.partition};
    int const kept = partition.run(
        all, [&](int i) { return i >= slots || Plan::level(plan_at(i)) >= 0; },
        [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
          move_exact(ref, from, to, warp_lane);
        });
    __syncthreads();
    for (int i = thread(); i < all; i += Threads) {
      ref.plans[granule_at(i)] = 0;
    }
    __syncthreads();
    if (thread() == 0) {
      lane.slots = kept;
      lane.guests = 0;
      lane.frozen += frozen;
    }
  }

  /// @brief Codes rows at the end of the pools, half a warp each. Where the pool of pages is empty
  /// they freeze: the tier has them.
  /// @param rows how many are looked at
  /// @param target target(i): level to which the i-th goes, or 0
  /// @param source source(i): its granule and exact rows
  /// @return how many were coded
  template <class Target, class Source>
  __device__ int push_codes(int rows, Target const& target, Source const& source) const {
    if (thread() < most_levels) {
      shared.added[thread()] = 0;
      shared.listed[thread()] = 0;  // compilers load it with its neighbours
    }
    __syncthreads();
    for (int i = thread(); i < rows; i += Threads) {
      if (int const level = target(i); level > 0) {
        atomicAdd(&shared.added[level - 1], 1);
      }
    }
    __syncthreads();
    if (thread() == 0) {
      bool placed = true;
      for (int level = 0; level < C::levels; ++level) {
        int const wanted = ref.lane->codes[level] + shared.added[level];
        placed = placed && grow(ref, pool, pool_segment(level), wanted);
        shared.added[level] = 0;
      }
      shared.placed = placed ? 1 : 0;
    }
    __syncthreads();
    if (shared.placed == 0) {
      return 0;
    }
    for (int begin = 0; begin < rows; begin += Threads) {
      list_codes(begin, rows, target);
      for (int level = 0; level < C::levels; ++level) {
        encode_listed(level, begin, source);
      }
      __syncthreads();
      if (thread() < C::levels) {
        shared.added[thread()] += shared.listed[thread()];
      }
      __syncthreads();
    }
    int coded = 0;
    for (int level = 0; level < C::levels; ++level) {
      coded += shared.added[level];
    }
    if (thread() < C::levels) {
      ref.lane->codes[thread()] += shared.added[thread()];
    }
    __syncthreads();
    return coded;
  }

 private:
  /// Lists those of the next rows that are coded, by level.
  template <class Target>
  __device__ void list_codes(int begin, int rows, Target const& target) const {
    if (thread() < most_levels) {
      shared.listed[thread()] = 0;
    }
    __syncthreads();
    int const i = begin + thread();
    int const level = i < rows ? target(i) - 1 : -1;
    if (level >= 0) {
      shared.list[level][atomicAdd(&shared.listed[level], 1)] =
          static_cast<std::uint16_t>(thread());
    }
    __syncthreads();
  }

  /// Codes the listed rows of a level behind those that its pool has.
  template <class Source>
  __device__ void encode_listed(int level, int begin, Source const& source) const {
    int const count = shared.listed[level];
    int const half = thread() % 32 / 16;
    for (int pair = thread() / 32 * 2; pair < count; pair += Threads / 32 * 2) {
      int const at = min(pair + half, count - 1);
      bool const own = pair + half == at;
      auto const slot =
          static_cast<std::uint32_t>(ref.lane->codes[level] + shared.added[level] + at);
      auto const row = source(begin + shared.list[level][at]);
      RowCoder<C, Threads>::encode(shared.coder, ref, level, slot, row, own);
      if (own && thread() % 16 == 0) {
        CodeSlot<C> const code = ref.code(level, slot);
        code.granule() = row.granule;
        code.stamp() = static_cast<std::uint16_t>(step);
        std::uint8_t const state = ref.states[row.granule];
        ref.states[row.granule] = host::GranuleState::with(state, Fidelity::compact);
      }
    }
  }
};

/// @param steps [max_sequences] finished steps; this one is the next
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads, 4) void settle_kernel(
    Geometry g, CacheMemory memory, std::uint32_t const* batch, std::uint32_t const* steps) {
  __shared__ SettleStorage<C, Threads> shared;
  std::uint32_t const sequence = batch[blockIdx.y];
  LaneRef<C> const ref(g, memory, sequence, blockIdx.x);
  if (ref.lane->mode != LaneMode::dense) {
    SettleLane<C, Threads>{ref, memory.pool, steps[sequence], shared}.run();
  }
}

}  // namespace kvfreeze::gpu::detail
