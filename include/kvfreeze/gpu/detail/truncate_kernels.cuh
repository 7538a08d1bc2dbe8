#pragma once

/// @file
/// @brief Rows from a position on are forgotten, and what was learnt of the others since.
/// @see host::rewalk, host::cut_lane, host::settle_lane

#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/block_partition.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/force_rows_kernel.cuh>
#include <kvfreeze/gpu/detail/freeze_slots.cuh>
#include <kvfreeze/gpu/detail/give_way.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/query_window.cuh>
#include <kvfreeze/gpu/detail/thaw_lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Who is cut to its SequenceState's length: a sequence, or those of a batch whose step rewinds.
struct CutSequences {
  std::uint32_t const* batch = nullptr;  ///< [gridDim.y]; null: one sequence
  std::uint32_t one = 0;

  [[nodiscard]] __device__ std::uint32_t sequence() const {
    return batch != nullptr ? batch[blockIdx.y] : one;
  }

  template <class C>
  [[nodiscard]] __device__ bool is_cut(SequenceState<C> const& sequence) const {
    return batch == nullptr || sequence.rewinds;
  }
};

/// @brief The caller cuts a sequence: it knows of the rewinds that go that far. One thread.
template <class C>
__global__ __attribute__((visibility("hidden"))) void begin_cut_kernel(SequenceState<C>* sequences,
                                                                       std::uint32_t index,
                                                                       int length) {
  SequenceState<C>& sequence = sequences[index];
  sequence.behind = max(length - sequence.length, 0);
  begin_cut(sequence, min(length, sequence.length));
  if (length <= sequence.rewind_to) {
    sequence.rewind_to = SequenceState<C>::no_rewind;
  }
}

/// Granules that are frozen although they are protected: a window and a group at most.
template <class C>
__device__ int owed_granules(LaneRef<C> const& ref) {
  int owed = 0;
  for (int i = ref.open_range().high; i < ref.granules(); ++i) {
    owed += is_frozen(ref.states[i]) ? 1 : 0;
  }
  return owed;
}

/// @brief Counters go back to those of the checkpoint that the sequence goes back to. By a block.
template <class C, int Threads>
__device__ void restore_counts(LaneRef<C> const& ref, SequenceState<C> const& sequence) {
  if constexpr (C::saves_counts) {
    if (!sequence.goes_back && !sequence.restores) {
      return;
    }
    int const granules = granules_of<C>(min(sequence.length, ref.lane->rows));
    for (int i = static_cast<int>(threadIdx.x); i < granules; i += Threads) {
      SavedCounts saved = ref.saved[i];
      if (sequence.goes_back) {
        saved = {saved.older, 0};
        ref.saved[i] = saved;
      }
      if (sequence.restores) {
        ref.timers[i].count = saved.newer;
      }
    }
  }
}

/// What the granules from `kept` on are counted in, they leave. By a block, before the lane is cut.
template <class C, int Threads>
__device__ void uncount_granules(LaneRef<C> const& ref, int kept) {
  LaneState& lane = *ref.lane;
  for (int i = kept + static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
    std::uint8_t const state = ref.states[i];
    Fidelity const fidelity = host::GranuleState::fidelity(state);
    if ((state & host::GranuleState::forced) != 0) {
      atomicSub(&lane.forced, 1U);
    }
    if (C::sleeps && fidelity == Fidelity::asleep) {
      atomicSub(&lane.asleep, 1U);
    }
    if (C::discards && fidelity == Fidelity::evicted) {
      atomicSub(&lane.evicted, 1);
    }
  }
}

/// Rows that are protected now do not sleep. By a block.
template <class C, int Threads>
__device__ void wake_protected(LaneRef<C> const& ref) {
  if constexpr (C::sleeps) {
    int const high = ref.open_range().high;
    for (int i = high + static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
      std::uint8_t const state = ref.states[i];
      if (host::GranuleState::fidelity(state) == Fidelity::asleep) {
        ref.states[i] = host::GranuleState::with(state, Fidelity::frozen);
        atomicSub(&ref.lane->asleep, 1U);
      }
    }
  }
}

/// @brief Forgets the rows of a lane from the sequence's length on, and with them the codes of rows
/// that are protected now; pages go back. Grid (lanes, sequences).
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void cut_kernel(
    Geometry g, CacheMemory memory, CutSequences who, SequenceState<C> const* sequences,
    std::uint32_t const* steps) {
  __shared__ typename BlockPartition<Threads>::Storage storage;
  [[maybe_unused]] __shared__ FetchStorage<C> stage;
  __shared__ std::uint32_t cell;
  SequenceState<C> const& sequence = sequences[who.sequence()];
  if (!who.is_cut(sequence)) {
    return;
  }
  LaneRef<C> const ref(g, memory, who.sequence(), blockIdx.x);
  LaneState& lane = *ref.lane;
  int const thread = static_cast<int>(threadIdx.x);
  int const rows = sequence.length;
  restore_counts<C, Threads>(ref, sequence);
  if (rows >= lane.rows) {
    return;
  }
  int const granules = granules_of<C>(rows);
  uncount_granules<C, Threads>(ref, granules);
  BlockPartition<Threads> partition{storage};
  int const kept = partition.run(
      lane.slots,
      [&](int i) {
        return static_cast<int>(ref.record(static_cast<std::uint32_t>(i)).granule) >= granules;
      },
      [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
        move_exact(ref, from, to, warp_lane);
      });
  __syncthreads();
  if (thread == 0) {
    if constexpr (C::needs_queries) {
      lane.first_query = min(window_begin(ref, lane.rows), rows);
    }
    lane.slots = kept;
    lane.rows = rows;
    lane.chunk = 0;
    if constexpr (C::has_digest) {
      lane.groups = rows / C::Digest::group_rows;
    }
  }
  __syncthreads();
  newest_last<C, Threads>(ref, cell);
  wake_protected<C, Threads>(ref);
  auto const high = static_cast<std::uint32_t>(ref.open_range().high);
  for (int level = 0; level < C::levels; ++level) {
    int const left = partition.run(
        lane.codes[level],
        [&](int i) { return ref.code(level, static_cast<std::uint32_t>(i)).granule() >= high; },
        [&](std::uint32_t from, std::uint32_t to, int warp_lane) {
          move_code(ref, level, from, to, warp_lane);
        });
    __syncthreads();
    drop_codes<C, Threads>(ref, level, left);
  }
  if (lane.budget != no_limit) {  // room for the rows that settle_owed_kernel() brings back
    int const owed = owed_granules(ref);
    std::uint32_t const more = row_pages(g, lane.slots + owed) - row_pages(g, lane.slots);
    __syncthreads();
    if constexpr (C::has_levels) {
      give_way<C, Threads>(ref, lane.budget - min(lane.budget, more), storage);
    } else {
      int const allowed = allowed_slots<C>(g, lane.budget, rows + 1);
      make_room<C, Threads>(ref, lane.slots + owed + 1 - allowed, steps[who.sequence()], storage,
                            [](std::uint32_t) { return true; });
    }
  }
  if constexpr (C::needs_queries) {  // integers: the same as taking back what each query added
    rebuild_sums<C, Threads>(ref, {0, lane.slots}, rows, stage);
  }
  release_pages(ref, memory.pool);
  find_tail<C, Threads>(ref);
}

/// @brief Rows that cut_kernel() left frozen although they are protected now come back. Grid
/// (lanes, sequences).
/// @param reports [max_sequences][2]: of a batch whose steps end with this launch; else null
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void settle_owed_kernel(
    Geometry g, CacheMemory memory, CutSequences who, SequenceState<C>* sequences,
    std::uint32_t const* steps, std::uint32_t* status, DeviceReport* reports) {
  __shared__ FetchStorage<C> stage;
  __shared__ int first;
  __shared__ int owed;
  std::uint32_t const index = who.sequence();
  SequenceState<C>& sequence = sequences[index];
  LaneRef<C> const ref(g, memory, index, blockIdx.x);
  LaneState& lane = *ref.lane;
  int const thread = static_cast<int>(threadIdx.x);
  std::uint32_t const step = steps[index];
  bool const is_cut = who.is_cut(sequence);
  if (is_cut) {
    int const high = ref.open_range().high;
    // The step that a rewind ends is not over for the host: it stamps with its number.
    std::uint32_t const now = who.batch != nullptr ? step - 1U : step;
    bool const carries = ref.is_filling() && host::GranuleState::fidelity(
                                                 ref.states[ref.granules() - 1]) == Fidelity::exact;
    if (thread == 0) {
      owed = owed_granules(ref);
      first = lane.slots - (carries ? 1 : 0);
      if (!C::in_place && !grow(ref, memory.pool, rows_segment, lane.slots + owed)) {
        atomicOr(status, Status::no_pages);
        owed = 0;
      }
    }
    __syncthreads();
    if (carries && owed > 0) {
      carry_newest(ref, static_cast<std::uint32_t>(first),
                   static_cast<std::uint32_t>(first + owed));
    }
    if (thread == 0) {
      lane.slots += owed;
      auto slot = static_cast<std::uint32_t>(first);
      for (int i = high; i < ref.granules() && owed > 0; ++i) {
        std::uint8_t const state = ref.states[i];
        if (!is_frozen(state)) {
          continue;
        }
        lane.forced -= (state & host::GranuleState::forced) != 0 ? 1U : 0U;
        ref.states[i] = thawed(state);
        if constexpr (C::in_place) {
          ref.list[slot] = static_cast<std::uint32_t>(i);
        }
        ref.record(slot++) = {static_cast<std::uint32_t>(i), static_cast<std::uint16_t>(now), 0};
      }
    }
    __syncthreads();
    fetch_granules<C, Threads>(ref, {first, first + owed}, lane.rows, stage);
    __syncthreads();
    find_tail<C, Threads>(ref);
  }
  if constexpr (C::rewalks) {
    if (reports != nullptr && thread == 0) {
      end_report<C>(g, ref.lane - blockIdx.x, sequence, reports[2 * index + step % 2], step,
                    is_cut);
    }
  }
}

}  // namespace kvfreeze::gpu::detail
