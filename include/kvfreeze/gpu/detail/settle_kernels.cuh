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

/// @brief A row's exact elements in the tier.
template <class C>
__device__ ExactRow<C> stored_row(LaneRef<C> const& ref, std::uint32_t granule) {
  auto const* const k = reinterpret_cast<typename C::Value const*>(ref.stored(granule));
  return {granule, k, k + ref.geometry->row_elements};
}

/// @brief Rows that leave where they are, coded if they are to be: those that have left a pool, or
/// the exact ones. Both by the same code, which the compiler makes once.
template <class C>
struct LeavingRows {
  LaneRef<C> const& ref;
  int level;  ///< pool that they have left, behind those that stay; or C::levels: exact rows
  int kept;   ///< codes that stay there
  int count;

  [[nodiscard]] __device__ bool are_exact() const { return level == C::levels; }

  [[nodiscard]] __device__ std::uint32_t granule(int i) const {
    return are_exact() ? ref.record(static_cast<std::uint32_t>(i)).granule
                       : ref.code(level, static_cast<std::uint32_t>(kept + i)).granule();
  }

  /// Level to which the i-th goes, or 0.
  [[nodiscard]] __device__ int target(int i) const {
    std::uint8_t const plan = ref.plans[granule(i)];
    bool const other = !are_exact() && (plan & Plan::guest) != 0;  // it is an exact row too
    return other ? 0 : max(Plan::level(plan), 0);
  }

  /// From a pool to a coarser one a row goes by way of the tier.
  [[nodiscard]] __device__ ExactRow<C> source(int i) const {
    auto const slot = static_cast<std::uint32_t>(i);
    return are_exact() ? ExactRow<C>{granule(i), ref.k(slot), ref.v(slot)}
                       : stored_row(ref, granule(i));
  }
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
    // Ascending levels: nothing is written where those that left are still listed. Exact rows are
    // the last ones.
#pragma unroll 1
    for (int level = 1; level <= C::levels; ++level) {
      settle(level);
    }
  }

  /// Exact rows and guests that leave their slots: coded, if they are to be, then packed away.
  __device__ void settle_exact() const { settle(C::levels); }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  /// Codes that leave their pool go behind those that stay, where settle() finds them.
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

  /// @brief Codes what leaves a pool for a coarser one, or what of the exact rows leaves.
  /// @param level of the pool, or C::levels
  __device__ void settle(int level) const {
    LaneState& lane = *ref.lane;
    bool const exact = level == C::levels;
    int const slots = lane.slots;
    LeavingRows<C> rows{ref, level, 0, slots + lane.guests};
    if (!exact) {
      rows.kept = lane.codes[level];
      rows.count = shared.held[level] - rows.kept;
    }
    std::uint32_t frozen = 0;
    for (int i = thread(); exact && i < slots; i += Threads) {
      std::uint32_t const granule = rows.granule(i);
      if (Plan::level(ref.plans[granule]) >= 0) {
        ref.freeze(granule);
        frozen += 1;
      }
    }
    if (exact) {
      // Guests that were frozen before are so still; those that left a pool became so with it.
      frozen = block_sum(frozen, shared.partition.count);
    }
    int const coded = push_codes(rows);
    if (exact) {
      int const kept = BlockPartition<Threads>{shared.partition}.run(
          rows.count,
          [&](int i) { return i >= slots || Plan::level(ref.plans[rows.granule(i)]) >= 0; },
          [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
            move_exact(ref, from, to, warp_lane);
          });
      __syncthreads();
      if (thread() == 0) {
        lane.slots = kept;
        lane.guests = 0;
        lane.frozen += frozen;
      }
    } else if (thread() == 0) {
      lane.thawed += static_cast<std::uint32_t>(coded);
      lane.moved_in += static_cast<std::uint64_t>(coded) * ref.geometry->granule_bytes();
    }
    for (int i = thread(); i < rows.count; i += Threads) {
      if (exact || rows.target(i) > 0) {
        ref.plans[rows.granule(i)] = 0;
      }
    }
    __syncthreads();
  }

 public:
  /// @brief Codes rows at the end of the pools, half a warp each. Where the pool of pages is empty
  /// they freeze: the tier has them.
  /// @param rows as LeavingRows: `count`, and of each target() and source()
  /// @return how many were coded
  template <class Rows>
  __device__ int push_codes(Rows const& rows) const {
    if (thread() < most_levels) {
      shared.added[thread()] = 0;
      shared.listed[thread()] = 0;  // compilers load it with its neighbours
    }
    __syncthreads();
    for (int i = thread(); i < rows.count; i += Threads) {
      if (int const level = rows.target(i); level > 0) {
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
    for (int begin = 0; begin < rows.count; begin += Threads) {
      list_codes(rows, begin);
      for (int level = 0; level < C::levels; ++level) {
        encode_listed(rows, begin, level);
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
  template <class Rows>
  __device__ void list_codes(Rows const& rows, int begin) const {
    if (thread() < most_levels) {
      shared.listed[thread()] = 0;
    }
    __syncthreads();
    int const i = begin + thread();
    int const level = i < rows.count ? rows.target(i) - 1 : -1;
    if (level >= 0) {
      shared.list[level][atomicAdd(&shared.listed[level], 1)] =
          static_cast<std::uint16_t>(thread());
    }
    __syncthreads();
  }

  /// Codes the listed rows of a level behind those that its pool has.
  template <class Rows>
  __device__ void encode_listed(Rows const& rows, int begin, int level) const {
    int const count = shared.listed[level];
    int const half = thread() % 32 / 16;
    for (int pair = thread() / 32 * 2; pair < count; pair += Threads / 32 * 2) {
      int const at = min(pair + half, count - 1);
      bool const own = pair + half == at;
      auto const slot =
          static_cast<std::uint32_t>(ref.lane->codes[level] + shared.added[level] + at);
      auto const row = rows.source(begin + shared.list[level][at]);
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
