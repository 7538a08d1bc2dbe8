#pragma once

/// @file
/// @brief What the ladder's verdict means for each row: by all blocks of a lane, a part of the rows
/// each. They leave bits, which one of them makes lists of.

#include <kvfreeze/gpu/detail/ladder_lane.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/softmax_weight.cuh>
#include <kvfreeze/gpu/detail/timers.cuh>
#include <kvfreeze/policy_traits.hpp>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// In each of four states: the row must be exact.
inline constexpr std::uint32_t must_be_exact =
    0x01010101U * (host::GranuleState::forced | host::GranuleState::pinned);

/// In each of four states: all bits set if it is that of a frozen row, else none.
__device__ inline std::uint32_t are_frozen(std::uint32_t states) {
  return __vcmpeq4(states & 0x01010101U * host::GranuleState::fidelity_mask,
                   0x01010101U * static_cast<std::uint32_t>(Fidelity::frozen));
}

/// @brief Does a granule rise from level `here`? Cuts ascend.
/// @param must it must be exact, whatever its mass
template <class C>
__device__ bool is_riser(RungCuts const& cuts, bool must, Mass mass, int here) {
  return must || (C::rises && mass >= cuts.least[here]);
}

/// The level that it rises to; 0: it stays.
template <class C>
__device__ int riser_level(RungCuts const& cuts, bool must, Mass mass, int here) {
  if (!is_riser<C>(cuts, must, mass, here)) {
    return 0;
  }
  return must ? C::levels + 1 : cuts.level(mass);
}

/// @brief Which of a lane's rows must be exact. States of compact rows lie anywhere: they are not
/// read where the lane has no such row.
template <class C>
struct MustBeExact {
  LadderLane<C> const& lane;
  bool some;

  __device__ explicit MustBeExact(LadderLane<C> const& l)
      : lane(l), some(l.state().forced != 0 || l.ref.pins[0] != 0) {}

  [[nodiscard]] __device__ bool granule(std::uint32_t i) const {
    return (lane.ref.states[i] & must_be_exact) != 0;
  }

  [[nodiscard]] __device__ bool coded(int level, int i) const {
    return some && granule(lane.coded(level, i));
  }
};

/// Was a row with this stamp needed by none of the last `age` steps?
template <class C>
__device__ bool is_old(LadderLane<C> const& l, std::uint16_t stamp, int age) {
  return ((l.where.step - stamp) & 0xFFFFU) >= (static_cast<std::uint32_t>(age) & 0xFFFFU);
}

/// @brief Marks the rows that rise and those that may sink, stamps the compact ones that this step
/// needs, adds up the masses of the frozen ones, and sends those to sleep that it does not need. By
/// all blocks of the lane.
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

  /// Writes the flags of a warp's rows, four a thread, where there are rows.
  __device__ void mark(std::uint32_t* bits, int run, int first, int n, unsigned flags) const {
    unsigned const part = threadIdx.x % 8;
    unsigned word = flags << (4 * part);
    if (__any_sync(warp_mask, flags != 0)) {
#pragma unroll
      for (int distance = 1; distance < 8; distance *= 2) {
        word |= __shfl_xor_sync(warp_mask, word, distance);
      }
    }
    if (part == 0 && n > 0) {
      bits[(l_.runs().begin[run] + first) / 32] = word;
    }
  }

  __device__ void mark_frozen() const {
    RungCuts const& cuts = l_.shared.cuts;
    std::uint64_t frozen = 0;
    std::uint32_t sleepers = 0;
    for_each_four(LaneRuns::digests, [&](int first, int n) {
      std::uint32_t const states = load_four(l_.ref.states + first, n);
      std::uint32_t const takes_part = are_frozen(states);
      Mass masses[4];
      l_.masses(LaneRuns::digests, first, n, masses);
      unsigned rise = 0;
      unsigned unneeded = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        std::uint32_t const row = 1U << (8 * j);
        if (j < n && (takes_part & row) != 0) {
          frozen += masses[j];
          bool const must = (states & must_be_exact & row * 0xFFU) != 0;
          rise |= is_riser<C>(cuts, must, masses[j], 0) ? 1U << j : 0U;
          unneeded |= !must && masses[j] < cuts.least[0] ? 1U << j : 0U;
        }
      }
      mark(l_.risers, LaneRuns::digests, first, n, rise);
      if constexpr (C::sleeps) {
        sleepers += put_to_sleep(first, unneeded);
      }
    });
    frozen = warp_sum(frozen);
    if (threadIdx.x % 32 == 0 && frozen != 0) {
      atomicAdd(&l_.verdict.frozen, static_cast<unsigned long long>(frozen));
    }
    if (C::sleeps && sleepers != 0) {
      atomicAdd(&l_.state().asleep, sleepers);
    }
  }

  /// Frozen rows that were asked and are not needed, a bit each from row `first` on.
  /// @return how many of them sleep
  [[nodiscard]] __device__ std::uint32_t put_to_sleep(int first, unsigned unneeded) const {
    auto const open = l_.ref.open_range();
    std::uint32_t sleepers = 0;
#pragma unroll 1
    for (; unneeded != 0; unneeded &= unneeded - 1) {
      int const row = first + __ffs(static_cast<int>(unneeded)) - 1;
      if (row >= open.low && row < open.high) {
        sleepers +=
            sleep_unwanted(l_.ref, l_.scheduler, static_cast<std::uint32_t>(row), l_.where.step)
                ? 1
                : 0;
      }
    }
    return sleepers;
  }

  __device__ void mark_compact(int level) const {
    RungCuts const& cuts = l_.shared.cuts;
    int const run = LaneRuns::pool(level);
    int const age = l_.verdict.sink_age;
    std::uint32_t const needed = cuts.needed(level + 1, kvfreeze::detail::hysteresis(l_.scheduler));
    MustBeExact<C> const must(l_);
    std::uint32_t const stays = cuts.least[level];
    for_each_four(run, [&](int first, int n) {
      Mass masses[4];
      l_.masses(run, first, n, masses);
      unsigned rise = 0;
      unsigned sink = 0;
      if (n > 0) {
        std::uint16_t* const own = &l_.ref.code(level, static_cast<std::uint32_t>(first)).stamp();
        std::uint16_t stamps[4];
        load_four(own, n, std::uint16_t{0}, stamps);
        bool some = false;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          bool const is_needed = masses[j] >= needed;
          some = some || is_needed;
          sink |= age > 0 && !is_needed && masses[j] < stays && is_old(l_, stamps[j], age) ? 1U << j
                                                                                           : 0U;
          stamps[j] = is_needed ? static_cast<std::uint16_t>(l_.where.step) : stamps[j];
          if (decodes_ && j < n &&
              is_riser<C>(cuts, must.coded(level, first + j), masses[j], level + 1)) {
            rise |= 1U << j;
          }
        }
        if (some) {
          store_four(own, stamps, n);
        }
        sink &= (1U << n) - 1U;
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
