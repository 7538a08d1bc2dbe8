#pragma once

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Gaps that a partition has found and not filled yet, and entries that are to fill them, in
/// shared memory.
/// @tparam Threads of the block, which calls together
template <int Threads>
struct PartitionLists {
  static constexpr int room = 2 * Threads;

  std::uint32_t gaps[room];
  std::uint32_t movers[room];
  std::uint32_t count;  ///< for block_sum()

  /// @brief Fills as many gaps as there are movers for, and keeps the others.
  /// @param found_gaps, found_movers how many there are; then how many are left
  /// @param swap swap(from, to), called by a whole warp: entry `from` takes the place of entry
  ///   `to`, which leaves
  /// @return false: none could be filled
  template <class Swap>
  __device__ bool move(int& found_gaps, int& found_movers, Swap const& swap) {
    int const moves = min(found_gaps, found_movers);
    if (moves == 0) {
      return false;
    }
    auto const thread = static_cast<int>(threadIdx.x);
    for (int i = thread / 32; i < moves; i += Threads / 32) {
      swap(movers[i], gaps[i], thread % 32);
    }
    __syncthreads();
    found_gaps = shift(gaps, moves, found_gaps);
    found_movers = shift(movers, moves, found_movers);
    return true;
  }

 private:
  /// Moves what lies behind the first `done` to the front; returns how many that are.
  static __device__ int shift(std::uint32_t* list, int done, int count) {
    auto const thread = static_cast<int>(threadIdx.x);
    int const left = count - done;
    std::uint32_t const first = thread < left ? list[done + thread] : 0U;
    std::uint32_t const second = thread + Threads < left ? list[done + thread + Threads] : 0U;
    __syncthreads();
    if (thread < left) {
      list[thread] = first;
    }
    if (thread + Threads < left) {
      list[thread + Threads] = second;
    }
    __syncthreads();
    return left;
  }
};

}  // namespace kvfreeze::gpu::detail
