#pragma once

/// @file
/// @brief The step of a uniformly quantised lane: nothing is ranked, every row that is not
/// protected is coded. @see host::return_rows, host::code_all

#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/give_way.cuh>
#include <kvfreeze/gpu/detail/ranked_list.cuh>
#include <kvfreeze/gpu/detail/settle_kernels.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Shared memory of the coding block.
template <class C, int Threads>
struct UniformStorage {
  SettleStorage<C, Threads> settle;
  typename RankedList<Threads>::Storage list;
  std::uint32_t placed;  ///< were there pages?
};

/// @brief Brings one lane's rows to their levels. By one block, which calls every function
/// together.
template <class C, int Threads>
struct UniformLane {
  LaneRef<C> const& ref;
  PagePool const& pool;
  std::uint32_t step;
  std::uint32_t* list;  ///< work space, a granule for each row
  UniformStorage<C, Threads>& shared;

  /// Rows that a pin, a truncation or a recovery left at the wrong level come back, as many as the
  /// transfer budget pays for: pinned ones exact, frozen ones through their codes.
  __device__ void return_rows() const {
    if (ref.pins[0] != 0) {
      drop_pinned_codes();
    }
    bool const complete = ref.lane->slots + ref.compact() == ref.lane->rows;
    std::uint32_t const allotment = ref.lane->allotment;
    __syncthreads();  // all have asked
    if (complete) {
      return;
    }
    int const pinned = list_frozen(true, allotment);
    thaw(pinned);
    code(list_frozen(false, allotment - static_cast<std::uint32_t>(pinned)));
  }

  /// Exact rows that are not protected go to the one compact level.
  __device__ void code_all() const {
    auto const open = ref.open_range();
    for (int i = thread(); i < ref.lane->slots; i += Threads) {
      std::uint32_t const granule = ref.record(static_cast<std::uint32_t>(i)).granule;
      ref.plans[granule] = ref.may_freeze(granule, open) ? Plan::to(1) : std::uint8_t{0};
    }
    __syncthreads();
    settle().settle_exact();
    __syncthreads();
  }

 private:
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }

  [[nodiscard]] __device__ SettleLane<C, Threads> settle() const {
    return {ref, pool, step, shared.settle};
  }

  __device__ void drop_pinned_codes() const {
    BlockPartition<Threads> partition{shared.settle.partition};
    int const codes = ref.lane->codes[0];
    int const left = partition.run(
        codes,
        [&](int i) {
          std::uint32_t const granule = ref.code(0, static_cast<std::uint32_t>(i)).granule();
          return (ref.states[granule] & host::GranuleState::pinned) != 0;
        },
        [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
          move_code(ref, 0, from, to, warp_lane);
        });
    __syncthreads();
    drop_codes<C, Threads>(ref, 0, left);
  }

  /// @brief Lists frozen rows, pinned or not, the oldest first; nobody waits for them any more.
  /// @param most what the transfer budget pays for: the others wait
  /// @return how many are listed
  __device__ int list_frozen(bool pinned, std::uint32_t most) const {
    int const found = RankedList<Threads>::for_each_picked(
        ref.lane->rows, shared.list,
        [&](int i) {
          std::uint8_t const state = ref.states[i];
          bool const wanted =
              is_frozen(state) && ((state & host::GranuleState::pinned) != 0) == pinned;
          if (wanted && !ref.is_here(static_cast<std::uint32_t>(i), pinned)) {
            atomicAdd(&ref.lane->deferred, 1U);
            return false;
          }
          return wanted;
        },
        [&](int i, int rank) {
          if (static_cast<std::uint32_t>(rank) >= most) {
            return;
          }
          list[rank] = static_cast<std::uint32_t>(i);
          std::uint8_t const state = ref.states[i];
          if ((state & host::GranuleState::forced) != 0) {
            atomicSub(&ref.lane->forced, 1U);
            ref.states[i] = static_cast<std::uint8_t>(state & ~host::GranuleState::forced);
          }
        });
    auto const listed = static_cast<int>(min(most, static_cast<std::uint32_t>(found)));
    if (thread() == 0) {
      ref.lane->deferred += static_cast<std::uint32_t>(found - listed);
    }
    __syncthreads();
    return listed;
  }

  /// The listed rows become exact, as far as there are pages: all of them or none.
  __device__ void thaw(int count) const {
    LaneState& lane = *ref.lane;
    int const slots = lane.slots;
    if (thread() == 0) {
      shared.placed = grow(ref, pool, rows_segment, slots + count + 1) ? 1 : 0;
      lane.deferred += shared.placed == 0 ? static_cast<std::uint32_t>(count) : 0U;
    }
    __syncthreads();
    if (shared.placed == 0) {
      return;
    }
    for (int i = thread() / 32; i < count; i += Threads / 32) {
      auto const slot = static_cast<std::uint32_t>(slots + i);
      std::uint32_t const granule = list[i];
      load_granule(ref, granule, slot, thread() % 32);
      if (thread() % 32 == 0) {
        ref.record(slot) = {granule, static_cast<std::uint16_t>(step), 0};
        ref.states[granule] = thawed(ref.states[granule]);
      }
    }
    __syncthreads();
    if (thread() == 0) {
      lane.slots = slots + count;
      count_moved(count);
    }
    __syncthreads();
  }

  /// Listed rows, as SettleLane codes them.
  struct ListedRows {
    LaneRef<C> const& ref;
    std::uint32_t const* list;
    int count;

    [[nodiscard]] __device__ int target(int) const { return 1; }

    [[nodiscard]] __device__ ExactRow<C> source(int i) const { return stored_row(ref, list[i]); }
  };

  /// The listed rows are coded as the tier has them.
  __device__ void code(int count) const {
    int const coded = settle().push_codes(ListedRows{ref, list, count});
    if (thread() == 0) {
      count_moved(coded);
      ref.lane->deferred += static_cast<std::uint32_t>(count - coded);
    }
    __syncthreads();
  }

  __device__ void count_moved(int count) const {
    ref.lane->thawed += static_cast<std::uint32_t>(count);
    ref.lane->moved_in += static_cast<std::uint64_t>(count) * ref.geometry->granule_bytes();
  }
};

/// @brief Codes what is not protected and describes the lanes anew. A block a lane. Pages are only
/// taken: release_kernel() gives them back.
/// @param returns do rows come back before? Not behind a chunk
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void uniform_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, bool returns) {
  __shared__ UniformStorage<C, Threads> shared;
  auto const work = static_cast<int>(blockIdx.x);
  WorkLane const where(g, s, work);
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  if (ref.lane->mode == LaneMode::dense) {
    return;
  }
  std::uint32_t* const list = s.granules + static_cast<std::ptrdiff_t>(work) * s.stride;
  UniformLane<C, Threads> const lane{ref, memory.pool, where.step, list, shared};
  RowCoder<C, Threads>::fill(shared.settle.coder);
  __syncthreads();
  if (returns) {
    lane.return_rows();
  }
  lane.code_all();
  describe_lane<C, Threads>(ref, s, work);
}

/// @brief Logits of coded rows, in the order of the pool: the digests'. Lanes along y.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void coded_logits_kernel(Geometry g, CacheMemory memory, LayerStep<C> s) {
  auto const work = static_cast<int>(blockIdx.y);
  WorkLane const where(g, s, work);
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  LaneRuns const runs = lane_runs(ref, s, work);
  constexpr int run = LaneRuns::pool(0);
  int const first = static_cast<int>(blockIdx.x * Threads + threadIdx.x);
  for (int i = first; i < runs.rows[run]; i += static_cast<int>(gridDim.x) * Threads) {
    std::uint32_t const granule = ref.code(0, static_cast<std::uint32_t>(i)).granule();
    float* const logits = runs.coded.row(static_cast<std::size_t>(i));
    for (int h = 0; h < g.lane_queries; ++h) {
      logits[h] = runs.logits[h * runs.stride + granule];
    }
    runs.coded.pad(static_cast<std::size_t>(i), g.lane_queries);
  }
}

}  // namespace kvfreeze::gpu::detail
