#pragma once

/// @file
/// @brief What the ladder's verdict means for each row: by all blocks of a lane, a part of the rows
/// each. They leave bits, which one of them makes lists of.

#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Level that a granule rises to from level `here`; 0: it stays.
template <class C>
__device__ int riser_level(RungCuts const& cuts, std::uint8_t state, Mass mass, int here) {
  constexpr std::uint8_t must = host::GranuleState::forced | host::GranuleState::pinned;
  if ((state & must) != 0) {
    return C::levels + 1;
  }
  if constexpr (!C::rises) {
    return 0;
  }
  int const level = cuts.level(mass);
  return level > here ? level : 0;
}

/// @brief States of a lane's compact rows. Without a row that must be exact nobody needs them: they
/// lie anywhere.
template <class C>
struct CompactStates {
  LadderLane<C> const& lane;
  bool asks;

  __device__ explicit CompactStates(LadderLane<C> const& l)
      : lane(l), asks(l.state().forced != 0 || l.ref.pins[0] != 0) {}

  [[nodiscard]] __device__ std::uint8_t operator()(int level, int i) const {
    return asks ? lane.ref.states[lane.coded(level, i)] : std::uint8_t{0};
  }
};

/// Was a row with this stamp needed by none of the last `age` steps?
template <class C>
__device__ bool is_old(LadderLane<C> const& l, std::uint16_t stamp, int age) {
  return static_cast<std::uint16_t>(l.where.step - stamp) >= static_cast<std::uint16_t>(age);
}

/// @brief Marks the rows that rise and those that may sink, stamps the compact ones that this step
/// needs and adds up the masses of the frozen ones. By all blocks of the lane.
template <class C>
class MarkRows {
 public:
  __device__ MarkRows(LadderLane<C> const& lane, LanePlace const& place)
      : l_(lane), place_(place), decodes_(lane.step.pass == Pass::decode) {}

  __device__ void run() const {
    if (decodes_) {
      mark_frozen();
    }
    for (int level = 0; level < C::levels; ++level) {
      mark_compact(level);
    }
  }

 private:
  /// @brief Calls f(i, n) for all rows of a run, n <= 4 of them from i on, by whole warps; n may be
  /// 0.
  template <class F>
  __device__ void for_each_four(int run, F const& f) const {
    int const rows = l_.runs().rows[run];
    int const warp = place_.block * rank_warps + static_cast<int>(threadIdx.x / 32);
    for (int base = 128 * warp; base < rows; base += 128 * rank_warps * place_.blocks) {
      int const first = base + 4 * static_cast<int>(threadIdx.x % 32);
      f(first, min(max(rows - first, 0), 4));
    }
  }

  /// Writes the flags of a warp's rows, four a lane, where there are rows.
  __device__ void mark(std::uint32_t* bits, int run, int first, int n, unsigned flags) const {
    unsigned const part = threadIdx.x % 8;
    unsigned word = flags << (4 * part);
#pragma unroll
    for (int distance = 1; distance < 8; distance *= 2) {
      word |= __shfl_xor_sync(warp_mask, word, distance);
    }
    if (part == 0 && n > 0) {
      bits[(l_.runs().begin[run] + first) / 32] = word;
    }
  }

  __device__ void mark_frozen() const {
    RungCuts const& cuts = l_.shared.cuts;
    std::uint64_t frozen = 0;
    for_each_four(LaneRuns::digests, [&](int first, int n) {
      std::uint32_t const states = load_four(l_.ref.states + first, n);
      Mass masses[4];
      l_.masses(LaneRuns::digests, first, n, masses);
      unsigned rise = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        auto const state = static_cast<std::uint8_t>(byte_of(states, j));
        if (j < n && is_frozen(state)) {
          frozen += masses[j];
          rise |= riser_level<C>(cuts, state, masses[j], 0) > 0 ? 1U << j : 0U;
        }
      }
      mark(l_.risers, LaneRuns::digests, first, n, rise);
    });
    frozen = warp_sum(frozen);
    if (threadIdx.x % 32 == 0 && frozen != 0) {
      atomicAdd(&l_.verdict.frozen, static_cast<unsigned long long>(frozen));
    }
  }

  __device__ void mark_compact(int level) const {
    RungCuts const& cuts = l_.shared.cuts;
    int const run = LaneRuns::pool(level);
    int const age = l_.verdict.sink_age;
    std::uint32_t const needed = cuts.needed(level + 1, kvfreeze::detail::hysteresis(l_.scheduler));
    CompactStates<C> const states(l_);
    for_each_four(run, [&](int first, int n) {
      Mass masses[4];
      l_.masses(run, first, n, masses);
      unsigned rise = 0;
      unsigned sink = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j >= n) {
          continue;
        }
        int const i = first + j;
        std::uint16_t& stamp = l_.ref.code_stamp(level, static_cast<std::uint32_t>(i));
        if (masses[j] >= needed) {
          stamp = static_cast<std::uint16_t>(l_.where.step);
        } else if (age > 0 && cuts.level(masses[j]) <= level && is_old(l_, stamp, age)) {
          sink |= 1U << j;
        }
        if (decodes_ && riser_level<C>(cuts, states(level, i), masses[j], level + 1) > 0) {
          rise |= 1U << j;
        }
      }
      if (decodes_) {
        mark(l_.risers, run, first, n, rise);
      }
      if (age > 0) {
        mark(l_.sinkers, run, first, n, sink);
      }
    });
  }

  LadderLane<C> const& l_;
  LanePlace const& place_;
  bool decodes_;
};

}  // namespace kvfreeze::gpu::detail
