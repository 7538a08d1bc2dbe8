#pragma once

/// @file
/// @brief What a radix select ranks and counts: scores by number (top_k), masses by sum (top_p).

#include <kvfreeze/gpu/detail/segment_chunks.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int select_threads = 512;
inline constexpr std::uint32_t select_cells = 2048;

/// What is known of a segment's answer after some digits of the cutoff, or after all of them.
template <class Sum>
struct SelectState {
  std::uint32_t key;   ///< the known digits, the others 0
  std::uint32_t ties;  ///< if partial: how many elements that equal `key` are wanted
  Sum left;            ///< weight still wanted of the elements that begin with the known digits
  bool nothing;        ///< no element is wanted
  bool done;           ///< elements with at least `key` are wanted
  bool partial;        ///< but of those that equal it only the first ones
};

/// The k highest of floats. A NaN ranks below everything.
struct TopKRule {
  using Element = float;
  using Sum = std::uint32_t;
  static constexpr bool has_nans = true;
  static constexpr std::uint32_t lowest = 0;  ///< key that may be marked

  std::uint32_t const* each = nullptr;  ///< [segments] k, or null
  std::uint32_t all = 0;                ///< k of every segment

  [[nodiscard]] __device__ std::uint32_t k(Segment const& segment) const {
    return each != nullptr ? each[segment.index] : all;
  }

  /// Orders like the float, as unsigned; both zeros are one key and NaNs are 0.
  [[nodiscard]] static __device__ std::uint32_t key(float x) {
    std::uint32_t const bits = __float_as_uint(x);
    std::uint32_t const magnitude = bits & 0x7FFFFFFFU;
    std::uint32_t const ordered = bits != magnitude ? ~bits : bits | 0x80000000U;
    return magnitude > 0x7F800000U ? 0U : magnitude == 0 ? 0x80000000U : ordered;
  }

  /// Is the answer all or nothing, whatever the keys?
  [[nodiscard]] __device__ bool known(Segment const& segment,
                                      SelectState<std::uint32_t>& state) const {
    std::uint32_t const wanted = k(segment);
    state.nothing = wanted == 0;
    return wanted == 0 || wanted >= segment.size;
  }

  [[nodiscard]] __device__ Sum goal(Segment const& segment, Sum total) const {
    return min(k(segment), total);
  }

  /// How many elements of a key have that weight, rounded up.
  [[nodiscard]] static __device__ std::uint32_t elements(Sum weight, std::uint32_t) {
    return weight;
  }
};

/// The highest masses whose sum is a fraction of all.
struct TopPRule {
  using Element = std::uint32_t;
  using Sum = unsigned long long;
  static constexpr bool has_nans = false;
  static constexpr std::uint32_t lowest = 1;

  float const* each = nullptr;  ///< [segments] p, or null
  float all = 0.0F;             ///< p of every segment

  [[nodiscard]] static __device__ std::uint32_t key(std::uint32_t mass) { return mass; }

  [[nodiscard]] __device__ bool known(Segment const&, SelectState<Sum>&) const { return false; }

  /// As the host has it; p on the device is taken into [0, 1], a NaN for 0.
  [[nodiscard]] __device__ Sum goal(Segment const& segment, Sum total) const {
    float const p = each != nullptr ? each[segment.index] : all;
    float const bounded = p > 0.0F ? fminf(p, 1.0F) : 0.0F;
    double const part = ceil(__dmul_rn(static_cast<double>(total), static_cast<double>(bounded)));
    return min(total, static_cast<Sum>(part));
  }

  [[nodiscard]] static __device__ std::uint32_t elements(Sum weight, std::uint32_t mass) {
    return static_cast<std::uint32_t>((weight + mass - 1) / mass);
  }
};

inline constexpr std::uint32_t select_own_cells = select_cells / select_threads;
static_assert(select_own_cells == 4);

/// Sums of a thread's cells, moved 16 bytes at a time.
template <class Sum>
struct alignas(16) SelectSums {
  Sum of[select_own_cells];
};

/// @brief Sums by cell in shared memory, of at most `most` elements between two calls of `clear`.
template <class Rule>
struct SelectHistogram;

template <>
struct SelectHistogram<TopKRule> {
  static constexpr std::uint32_t most = 0x80000000U;

  alignas(16) std::uint32_t count[select_cells];

  __device__ void clear() {
    for (std::uint32_t i = threadIdx.x; i < select_cells; i += select_threads) {
      count[i] = 0;
    }
  }

  __device__ void add(bool counts, std::uint32_t cell, std::uint32_t) {
    if (counts) {
      atomicAdd(count + cell, 1U);
    }
  }

  /// Of four cells from a multiple of four on, the last first.
  [[nodiscard]] __device__ SelectSums<std::uint32_t> sums(std::uint32_t cell) const {
    uint4 const four = *reinterpret_cast<uint4 const*>(count + cell);
    return {{four.w, four.z, four.y, four.x}};
  }
};

/// Atomics of 64 bits on shared memory are loops, so halves are added up: 2^16 of them fit.
template <>
struct SelectHistogram<TopPRule> {
  static constexpr std::uint32_t most = 1U << 16;

  alignas(16) std::uint32_t low[select_cells];
  alignas(16) std::uint32_t high[select_cells];

  __device__ void clear() {
    for (std::uint32_t i = threadIdx.x; i < select_cells; i += select_threads) {
      low[i] = 0;
      high[i] = 0;
    }
  }

  /// Most masses of a softmax lie in one cell, the lowest, where the atomics of a warp would queue
  /// up: it adds up the masses of its first lane's cell beforehand. Called by whole warps.
  __device__ void add(bool counts, std::uint32_t cell, std::uint32_t mass) {
    bool const adds = counts && mass != 0;
    std::uint32_t const active = __ballot_sync(0xFFFFFFFFU, adds);
    if (active == 0) {
      return;
    }
    int const leader = __ffs(static_cast<int>(active)) - 1;
    bool const leads = static_cast<int>(threadIdx.x % 32) == leader;
    std::uint32_t const common = __shfl_sync(0xFFFFFFFFU, cell, leader);
    bool const same = adds && cell == common;
    std::uint32_t const lows = __reduce_add_sync(0xFFFFFFFFU, same ? mass & 0xFFFFU : 0U);
    std::uint32_t const highs = __reduce_add_sync(0xFFFFFFFFU, same ? mass >> 16 : 0U);
    if (leads || (adds && !same)) {
      std::uint32_t const upper = leads ? highs : mass >> 16;
      atomicAdd(low + cell, leads ? lows : mass & 0xFFFFU);
      if (upper != 0) {
        atomicAdd(high + cell, upper);
      }
    }
  }

  [[nodiscard]] __device__ SelectSums<unsigned long long> sums(std::uint32_t cell) const {
    uint4 const lows = *reinterpret_cast<uint4 const*>(low + cell);
    uint4 const highs = *reinterpret_cast<uint4 const*>(high + cell);
    return {{joined(lows.w, highs.w), joined(lows.z, highs.z), joined(lows.y, highs.y),
             joined(lows.x, highs.x)}};
  }

 private:
  [[nodiscard]] static __device__ unsigned long long joined(std::uint32_t a, std::uint32_t b) {
    return a + (static_cast<unsigned long long>(b) << 16);
  }
};

}  // namespace kvfreeze::gpu::detail
