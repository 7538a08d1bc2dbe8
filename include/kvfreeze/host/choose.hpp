#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/selection.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

namespace kvfreeze::host {

/// @brief Histogram of non-negative scores, eight bins to the octave, with exact integer sums.
///
/// Carries out selections in O(candidates + bins), without sorting. Bins are the top bits of the
/// float, sums are integers: the result does not depend on the order of the candidates.
class ScoreHistogram {
 public:
  static constexpr int bins = 512;  ///< 2^-39 to 2^25; scores beyond share the outer bins

  KVFREEZE_HD static constexpr int bin(float score) noexcept {
    auto const bits = static_cast<int>(__builtin_bit_cast(std::uint32_t, score) >> 20);
    return kvfreeze::detail::clamped(bits - 704, 0, bins - 1);
  }

  /// A score in units of 2^-30, the unit of masses.
  KVFREEZE_HD static constexpr std::uint64_t fixed(float score) noexcept {
    return static_cast<std::uint64_t>(kvfreeze::detail::smaller(score, 0x1p32F) * 0x1p30F);
  }

  void clear() noexcept {
    count_.fill(0);
    sum_.fill(0);
    total_ = 0;
  }

  void add(float score) noexcept {
    auto const b = static_cast<std::size_t>(bin(score));
    count_[b] += 1;
    sum_[b] += fixed(score);
    total_ += 1;
  }

  [[nodiscard]] int total() const noexcept { return total_; }

  /// @brief Candidates that remain when the lowest bins whose sums add up to at most `epsilon` go.
  [[nodiscard]] int remaining_above_mass(float epsilon) const noexcept {
    std::uint64_t const limit = fixed(epsilon);
    std::uint64_t sum = 0;
    int left = total_;
    for (std::size_t b = 0; b < bins && left > 0; ++b) {
      sum += sum_[b];
      if (sum > limit) {
        break;
      }
      left -= static_cast<int>(count_[b]);
    }
    return left;
  }

  /// Candidates in a bin above `bin` are wanted, and the first `ties` (by position) in it.
  struct Cutoff {
    int bin = -1;
    int ties = 0;
  };

  /// @brief The `count` highest; equal bins by position, older first.
  [[nodiscard]] Cutoff highest(int count) const noexcept {
    if (count >= total_) {
      return {-1, 0};
    }
    int left = std::max(count, 0);
    for (int b = bins - 1; b >= 0; --b) {
      auto const here = static_cast<int>(count_[static_cast<std::size_t>(b)]);
      if (here > left) {
        return {b, left};
      }
      left -= here;
    }
    return {-1, 0};
  }

  /// @brief Carries out a selection of kind mass, count or quantile.
  [[nodiscard]] Cutoff cut(Selection const& selection) const noexcept {
    switch (selection.kind) {
      case Selection::Kind::mass:
        return highest(remaining_above_mass(selection.value));
      case Selection::Kind::count:
        return highest(selection.count);
      case Selection::Kind::quantile: {
        auto const low =
            static_cast<int>(std::clamp(selection.value, 0.0F, 1.0F) * static_cast<float>(total_));
        return highest(total_ - low);
      }
      case Selection::Kind::none:
        return {bins, 0};
      default:
        return {-1, 0};
    }
  }

 private:
  std::array<std::uint32_t, bins> count_{};
  std::array<std::uint64_t, bins> sum_{};
  int total_ = 0;
};

/// @brief Exact score at which the `count` highest of one bin end, found by one more histogram over
/// the float's next ten bits and one over the last ten.
///
/// @return the bits of the lowest score that is taken; `ties` of those that equal it are taken
inline std::uint32_t split_bin(float const* scores, std::uint8_t const* flags, int n,
                               std::uint8_t candidate, int bin, int& ties) noexcept {
  std::uint32_t prefix = static_cast<std::uint32_t>(bin + 704) << 20;
  for (int const shift : {10, 0}) {
    std::array<std::uint32_t, 1024> count{};
    std::uint32_t const mask = ~((1U << (shift + 10)) - 1U);
    for (int i = 0; i < n; ++i) {
      auto const bits = std::bit_cast<std::uint32_t>(scores[i]);
      if ((flags[i] & candidate) != 0 && (bits & mask) == prefix) {
        count[(bits >> shift) & 1023U] += 1;
      }
    }
    int left = ties;
    int digit = 1023;
    while (digit > 0 && static_cast<int>(count[static_cast<std::size_t>(digit)]) < left) {
      left -= static_cast<int>(count[static_cast<std::size_t>(digit)]);
      digit -= 1;
    }
    prefix |= static_cast<std::uint32_t>(digit) << shift;
    ties = left;
  }
  return prefix;
}

/// @brief Marks `flags[i] |= wanted` for the candidates that a selection picks.
///
/// Counts and quantiles are exact: the bin in which they end is split by the scores' own bits, and
/// equal scores by position, older first.
/// @param candidate bit that says that i takes part
/// @return how many were marked
/// @complexity O(n)
inline int mark_wanted(Selection const& selection, ScoreHistogram const& histogram,
                       float const* scores, std::uint8_t* flags, int n, std::uint8_t candidate,
                       std::uint8_t wanted) noexcept {
  // What is wanted: bits above `edge`, and the first `ties` candidates at it.
  std::uint32_t edge = 0;
  int ties = std::numeric_limits<int>::max();
  if (selection.kind == Selection::Kind::above) {
    edge = std::bit_cast<std::uint32_t>(std::max(selection.value, 0.0F));
  } else {
    ScoreHistogram::Cutoff const cutoff = histogram.cut(selection);
    if (cutoff.bin >= ScoreHistogram::bins) {
      return 0;
    }
    if (cutoff.bin >= 0) {
      bool const outer = cutoff.bin == 0 || cutoff.bin == ScoreHistogram::bins - 1;
      ties = cutoff.ties;
      if (ties == 0 || outer) {
        int marked = 0;
        for (int i = 0; i < n; ++i) {
          int const bin = ScoreHistogram::bin(scores[i]);
          bool take = (flags[i] & candidate) != 0 && bin > cutoff.bin;
          if ((flags[i] & candidate) != 0 && bin == cutoff.bin && ties > 0) {
            take = true;  // scores beyond the histogram's range differ by position alone
            ties -= 1;
          }
          flags[i] = static_cast<std::uint8_t>(flags[i] | (take ? wanted : 0));
          marked += take ? 1 : 0;
        }
        return marked;
      }
      edge = split_bin(scores, flags, n, candidate, cutoff.bin, ties);
    }
  }
  int marked = 0;
  for (int i = 0; i < n; ++i) {
    if ((flags[i] & candidate) == 0) {
      continue;
    }
    auto const bits = std::bit_cast<std::uint32_t>(scores[i]);
    bool take = bits > edge;
    if (bits == edge && ties > 0) {
      take = true;
      ties -= 1;
    }
    flags[i] = static_cast<std::uint8_t>(flags[i] | (take ? wanted : 0));
    marked += take ? 1 : 0;
  }
  return marked;
}

}  // namespace kvfreeze::host
