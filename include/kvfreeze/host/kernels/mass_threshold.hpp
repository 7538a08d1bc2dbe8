#pragma once

/// @file
/// @brief From masses to the rows that are worth their place: a threshold, and the list above it.

#include <kvfreeze/host/kernels/histogram.hpp>
#include <kvfreeze/host/kernels/masses.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace kvfreeze::host::inline KVFREEZE_ISA {

namespace kernels {

/// sums[j] = sum of the masses that are at most bounds[j], over all runs.
/// @pre bounds >= 0; masses < 2^31
template <std::size_t N>
std::array<std::uint64_t, N> sums_up_to(std::span<LogitRun const> runs,
                                        std::array<std::int32_t, N> const& bounds) noexcept {
  std::int32_t const highest = *std::max_element(bounds.begin(), bounds.end());
  // So many additions keep a lane below 2^32.
  int const step = 16 * static_cast<int>(std::min<std::uint32_t>(
                            1024U, 0xFFFFFFFFU / static_cast<std::uint32_t>(std::max(highest, 1))));
  I32x16 limit[N];
  KVFREEZE_UNROLL
  for (std::size_t j = 0; j < N; ++j) {
    limit[j] = splat(bounds[j]);
  }
  WideSum total[N];
  for (LogitRun const& run : runs) {
    auto const* const masses = reinterpret_cast<std::int32_t const*>(run.masses);
    for (int begin = 0; begin < run.rows; begin += step) {
      int const end = std::min(run.rows, begin + step);
      I32x16 part[N];
      KVFREEZE_UNROLL
      for (std::size_t j = 0; j < N; ++j) {
        part[j] = splat(0);
      }
      int i = begin;
      for (; i + 16 <= end; i += 16) {
        I32x16 const x = load(masses + i);
        KVFREEZE_UNROLL
        for (std::size_t j = 0; j < N; ++j) {
          part[j] = add_at_most(part[j], x, limit[j]);
        }
      }
      if (i < end) {
        I32x16 const x = load_first(masses + i, end - i, 0);
        KVFREEZE_UNROLL
        for (std::size_t j = 0; j < N; ++j) {
          part[j] = add_at_most(part[j], x, limit[j]);
        }
      }
      KVFREEZE_UNROLL
      for (std::size_t j = 0; j < N; ++j) {
        total[j].add(part[j]);
      }
    }
  }
  std::array<std::uint64_t, N> sums;
  for (std::size_t j = 0; j < N; ++j) {
    sums[j] = total[j].total();
  }
  return sums;
}

inline constexpr std::int32_t largest_mass = std::numeric_limits<std::int32_t>::max();

/// Smallest mass above `bound`; `largest_mass` + 1 if there is none.
inline std::uint32_t smallest_above(std::span<LogitRun const> runs, std::int32_t bound) noexcept {
  // As x - 2^31, so that the smallest keeps apart from "none", which is 0.
  I32x16 const low = splat(bound);
  I32x16 const flip = splat(std::numeric_limits<std::int32_t>::min());
  I32x16 best = splat(0);
  auto const take = [&](I32x16 x) {
    I32x16 const key = select(less(low, x), add(x, flip), splat(0));
    best = select(less(key, best), key, best);
  };
  for (LogitRun const& run : runs) {
    auto const* const masses = reinterpret_cast<std::int32_t const*>(run.masses);
    int i = 0;
    for (; i + 16 <= run.rows; i += 16) {
      take(load(masses + i));
    }
    if (i < run.rows) {
      take(load_first(masses + i, run.rows - i, 0));
    }
  }
  std::int32_t lanes[16];
  store(lanes, best);
  return static_cast<std::uint32_t>(*std::min_element(lanes, lanes + 16)) + 0x80000000U;
}

/// The places where the sum of the masses below is worth knowing: the floor of each bin up to that
/// of epsilon, then epsilon itself. Sums below higher ones need not be known: a single mass above
/// epsilon exceeds it.
class ThresholdSearch {
 public:
  ThresholdSearch(std::span<LogitRun const> runs, Mass epsilon) noexcept
      : runs_(runs),
        epsilon_(epsilon),
        last_(log_bin(std::min(epsilon, static_cast<Mass>(largest_mass))) + 1) {}

  [[nodiscard]] int last() const noexcept { return last_; }

  /// The highest place, at most `last()`, where the sum is at most epsilon. Looks around `guess`
  /// first, then ever farther off on the side where it is, then between.
  [[nodiscard]] int highest_within(int guess) const noexcept {
    int low = 0;           // sum within epsilon: nothing is below 0
    int high = last_ + 1;  // sum above epsilon, or past the end
    look<4>(low, high, [=](int j) { return guess - 1 + j; });
    if (high - low > 1) {
      bool const up = low >= guess;
      look<8>(low, high, [=](int j) { return up ? guess + 2 + (1 << j) : guess - 1 - (1 << j); });
    }
    while (high - low > 1) {
      int const from = low;
      int const gap = high - low;
      if (gap <= 5) {
        look<4>(low, high, [=](int j) { return from + j + 1; });
      } else {
        look<8>(low, high, [=](int j) { return from + (gap * (j + 1) + 8) / 9; });
      }
    }
    return low;
  }

 private:
  /// Narrows (low, high) by the sums at N places; those outside cost time but do no harm.
  template <int N, class Place>
  void look(int& low, int& high, Place const& place) const noexcept {
    constexpr auto n = static_cast<std::size_t>(N);
    std::array<int, n> places;
    std::array<std::int32_t, n> bounds;
    for (std::size_t j = 0; j < n; ++j) {
      places[j] = std::clamp(place(static_cast<int>(j)), 0, last_);
      bounds[j] = bound_at(places[j]);
    }
    auto const sums = sums_up_to(runs_, bounds);
    for (std::size_t j = 0; j < n; ++j) {
      if (sums[j] <= epsilon_) {
        low = std::max(low, places[j]);
      } else {
        high = std::min(high, places[j]);
      }
    }
  }

  /// The largest mass below a place.
  [[nodiscard]] std::int32_t bound_at(int place) const noexcept {
    if (place == last_) {
      return static_cast<std::int32_t>(std::min(epsilon_, static_cast<Mass>(largest_mass)));
    }
    return place == 0 ? 0 : static_cast<std::int32_t>(log_bin_floor(place) - 1);
  }

  std::span<LogitRun const> runs_;
  Mass epsilon_;
  int last_;
};

}  // namespace kernels

/// @brief The threshold that leaves out as many of the lowest log bins as epsilon has room for: the
/// floor of the lowest bin b such that the masses of all rows in bins below b sum to at most
/// epsilon, but with bin b to more. The largest integer if everything fits.
///
/// What `LogHistogram::add` over all rows, `all_but(epsilon)` and `log_bin_floor` give, at a tenth
/// of the time where the guess is right or one bin off, which takes one pass over the masses; two
/// where it is three bins off, and six at worst. The guess does not change the result.
/// @param runs only rows and masses are looked at; masses below 2^31
/// @param guess a mass near the threshold: that of the last step
/// @complexity O(rows)
inline std::uint32_t mass_threshold(std::span<LogitRun const> runs, Mass epsilon,
                                    std::uint32_t guess) noexcept {
  kernels::ThresholdSearch const search(runs, epsilon);
  int const place = search.highest_within(std::min(log_bin(guess), search.last()));
  if (place < search.last()) {
    return log_bin_floor(place);
  }
  // All up to epsilon fits, so that the next mass above it decides.
  if (epsilon >= static_cast<Mass>(kernels::largest_mass)) {
    return std::numeric_limits<std::uint32_t>::max();
  }
  std::uint32_t const next = kernels::smallest_above(runs, static_cast<std::int32_t>(epsilon));
  return next <= static_cast<std::uint32_t>(kernels::largest_mass)
             ? log_bin_floor(log_bin(next))
             : std::numeric_limits<std::uint32_t>::max();
}

/// @brief Sum of the masses below a threshold, over all runs. O(rows).
/// @param runs only rows and masses are looked at; masses below 2^31
inline std::uint64_t sum_below(std::span<LogitRun const> runs, std::uint32_t threshold) noexcept {
  if (threshold == 0) {
    return 0;
  }
  auto const highest = static_cast<std::uint32_t>(kernels::largest_mass);
  auto const bound = static_cast<std::int32_t>(std::min(threshold - 1, highest));
  return kernels::sums_up_to<1>(runs, {bound})[0];
}

/// @brief Lists, in ascending order, the rows that take part and whose mass is at least
/// `threshold`; returns how many.
/// @param masses [rows], below 2^31
/// @param states [rows] as in `LogitRun`, or null for all
/// @param list [rows]: room for all, and what lies behind those listed is undefined
/// @complexity O(rows)
inline int list_at_least(Mass const* masses, std::uint8_t const* states, int rows,
                         std::uint32_t threshold, std::uint32_t* list) noexcept {
  int count = 0;
  int i = 0;
#if defined(KVFREEZE_ISA_AVX512)
  __m512i const low = _mm512_set1_epi32(static_cast<std::int32_t>(threshold));
  __m512i const bits = _mm512_set1_epi8(LogitRun::state_bits);
  __m512i const value = _mm512_set1_epi8(LogitRun::taking_part);
  __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (; i + 64 <= rows; i += 64) {
    std::uint64_t in = ~std::uint64_t{0};
    if (states != nullptr) {
      in = _cvtmask64_u64(
          _mm512_cmpeq_epi8_mask(_mm512_and_si512(_mm512_loadu_si512(states + i), bits), value));
    }
    __mmask16 keep[4];
    KVFREEZE_UNROLL
    for (int j = 0; j < 4; ++j) {
      keep[j] = _mm512_mask_cmpge_epu32_mask(static_cast<__mmask16>(in >> (16 * j)),
                                             _mm512_loadu_si512(masses + i + 16 * j), low);
    }
    // Compressing to memory is slow on some machines; count <= i, so that 16 entries have room.
    KVFREEZE_UNROLL
    for (__mmask16 const some : keep) {
      _mm512_storeu_si512(list + count, _mm512_maskz_compress_epi32(some, index));
      count += static_cast<int>(_mm_popcnt_u32(some));
      index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
    }
  }
#endif
  for (; i < rows; ++i) {
    list[count] = static_cast<std::uint32_t>(i);  // count <= i
    bool const in =
        states == nullptr || (states[i] & LogitRun::state_bits) == LogitRun::taking_part;
    count += in && masses[i] >= threshold ? 1 : 0;
  }
  return count;
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
