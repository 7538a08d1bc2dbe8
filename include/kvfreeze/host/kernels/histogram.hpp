#pragma once

#include <kvfreeze/config.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvfreeze::host {

/// @brief Bin of a value on a logarithmic scale: 8 bins an octave, exact below 8; in [0, 240).
KVFREEZE_HD constexpr int log_bin(std::uint32_t value) noexcept {
  if (value < 8) {
    return static_cast<int>(value);
  }
  int const exponent = 31 - __builtin_clz(value);
  return (exponent - 3) * 8 + static_cast<int>(value >> (exponent - 3));
}

/// @brief Smallest value of a bin.
KVFREEZE_HD constexpr std::uint32_t log_bin_floor(int bin) noexcept {
  if (bin < 16) {
    return static_cast<std::uint32_t>(bin);
  }
  int const shift = bin / 8 - 1;
  return static_cast<std::uint32_t>(bin % 8 + 8) << shift;
}

/// @brief Which rows are wanted: those in bins above `bin`, and of those in `bin` the first
/// `in_bin` by position.
struct BinCutoff {
  int bin = 0;
  std::uint32_t in_bin = 0;

  friend constexpr bool operator==(BinCutoff const&, BinCutoff const&) = default;
};

/// @brief Histogram of masses or scores: counts and sums of integers, so that thresholds do not
/// depend on the order of rows. 4 KB.
struct LogHistogram {
  static constexpr int bins = 256;
  static constexpr std::uint32_t all_of_bin = 0xFFFFFFFFU;

  std::uint64_t sums[bins] = {};
  std::uint32_t counts[bins] = {};

  void clear() noexcept { *this = LogHistogram{}; }

  /// @brief Adds values[i] for every i in [0, n) with mask[i] != 0.
  /// @param mask [n], or null for all
  /// @complexity O(n + bins)
  void add(std::uint32_t const* values, std::uint8_t const* mask, std::size_t n) noexcept {
    // A cell counts in its upper 16 bits and sums in its lower 48, so that a row costs one update;
    // four tables, so that equal neighbours do not wait for each other.
    constexpr std::size_t run = 4U * 0xFFFFU;
    std::uint64_t tables[4][bins];
    for (std::size_t begin = 0; begin < n; begin += run) {
      std::size_t const end = n - begin < run ? n : begin + run;
      std::memset(tables, 0, sizeof tables);
      std::size_t i = begin;
      if (mask == nullptr) {
        for (; i + 4 <= end; i += 4) {
          for (std::size_t j = 0; j < 4; ++j) {
            tables[j][log_bin(values[i + j])] += one + values[i + j];
          }
        }
        for (; i < end; ++i) {
          tables[(i - begin) & 3U][log_bin(values[i])] += one + values[i];
        }
      } else {
        for (; i < end; ++i) {
          std::uint64_t const keep = mask[i] != 0 ? ~std::uint64_t{0} : 0;
          tables[(i - begin) & 3U][log_bin(values[i])] += keep & (one + values[i]);
        }
      }
      for (int b = 0; b < bins; ++b) {
        for (auto const& table : tables) {
          counts[b] += static_cast<std::uint32_t>(table[b] >> 48);
          sums[b] += table[b] & (one - 1);
        }
      }
    }
  }

  /// @brief Adds another histogram's rows.
  void merge(LogHistogram const& other) noexcept {
    for (int b = 0; b < bins; ++b) {
      sums[b] += other.sums[b];
      counts[b] += other.counts[b];
    }
  }

  [[nodiscard]] std::uint64_t total_sum() const noexcept {
    std::uint64_t total = 0;
    for (std::uint64_t const sum : sums) {
      total += sum;
    }
    return total;
  }

  [[nodiscard]] std::uint32_t total_count() const noexcept {
    std::uint32_t total = 0;
    for (std::uint32_t const count : counts) {
      total += count;
    }
    return total;
  }

  /// @brief All but the largest set of lowest bins whose sum is at most `budget`. O(bins).
  [[nodiscard]] BinCutoff all_but(std::uint64_t budget) const noexcept {
    std::uint64_t below = 0;
    for (int b = 0; b < bins; ++b) {
      below += sums[b];
      if (below > budget) {
        return {b, all_of_bin};
      }
    }
    return {bins, 0};
  }

  /// @brief Exactly the k highest, at the resolution of a bin; everything if there are fewer.
  [[nodiscard]] BinCutoff highest(std::uint32_t k) const noexcept {
    std::uint32_t left = k;
    for (int b = bins - 1; b >= 0; --b) {
      if (counts[b] >= left) {
        return left == 0 ? BinCutoff{bins, 0} : BinCutoff{b, left};
      }
      left -= counts[b];
    }
    return {0, all_of_bin};
  }

  /// @brief The rows from the bin of the p-quantile on, p in [0, 1]: of the n values in ascending
  /// order, that at index floor(p * (n - 1)). Nothing if there are no rows.
  [[nodiscard]] BinCutoff above_quantile(float p) const noexcept {
    std::uint32_t const n = total_count();
    if (n == 0) {
      return {bins, 0};
    }
    auto const index = static_cast<std::uint32_t>(static_cast<double>(p) * (n - 1));
    std::uint32_t below = 0;
    for (int b = 0; b < bins; ++b) {
      below += counts[b];
      if (below > index) {
        return {b, all_of_bin};
      }
    }
    return {bins, 0};
  }

  /// @brief Rows whose value is at least that of `value`'s bin.
  [[nodiscard]] static BinCutoff above(std::uint32_t value) noexcept {
    return {log_bin(value), all_of_bin};
  }

 private:
  static constexpr std::uint64_t one = std::uint64_t{1} << 48;
};

/// @brief wanted[i] = 1 for the candidates that a cutoff wants, else 0; returns how many. O(n).
/// @param mask [n] candidates, or null for all
inline std::uint32_t apply_cutoff(BinCutoff cutoff, std::uint32_t const* values,
                                  std::uint8_t const* mask, std::size_t n,
                                  std::uint8_t* wanted) noexcept {
  std::uint32_t left = cutoff.in_bin;
  std::uint32_t total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    int const bin = log_bin(values[i]);
    bool const candidate = mask == nullptr || mask[i] != 0;
    bool const tied = candidate && bin == cutoff.bin && left != 0;
    bool const want = tied || (candidate && bin > cutoff.bin);
    left -= tied ? 1U : 0U;
    wanted[i] = static_cast<std::uint8_t>(want);
    total += want ? 1U : 0U;
  }
  return total;
}

}  // namespace kvfreeze::host
