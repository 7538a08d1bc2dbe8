#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/host/kernels/entropy.hpp>
#include <kvfreeze/host/kernels/segments.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

namespace kvfreeze::host {

/// @brief The softmax distribution of logits, in figures.
struct Entropy {
  double log_sum_exp = 0.0;      ///< nats
  double entropy_nats = 0.0;     ///< in [0, ln n]
  double top_probability = 0.0;  ///< of the likeliest
  std::uint32_t top_index = 0;   ///< the first of the likeliest
};

/// @brief Entropy of softmax(logits): exact (no sampling, no truncation), stable for any magnitude.
///
/// Logits of -infinity have probability 0. Relative error about 1e-7 (exponentials are floats).
/// @throws InvalidArgument if there are no logits, one is NaN or +infinity, or all are -infinity
/// @complexity O(logits), each read from memory once
template <Element T>
Entropy entropy(std::span<T const> logits) {
  if (logits.empty()) {
    throw InvalidArgument("entropy: there are no logits");
  }
  LogitSums const sums = logit_sums(logits.data(), logits.size());
  if (!sums.valid) {
    std::size_t i = 0;
    while (to_float(logits[i]) < std::numeric_limits<float>::infinity()) {
      ++i;
    }
    throw InvalidArgument("entropy: logits[" + std::to_string(i) + "] of " +
                          std::to_string(logits.size()) + " is NaN or +infinity");
  }
  if (!(sums.sum > 0.0)) {
    throw InvalidArgument("entropy: all " + std::to_string(logits.size()) +
                          " logits are -infinity");
  }
  constexpr double ln2 = 0.69314718055994530942;
  double const octaves = log2(sums.sum);
  Entropy result;
  result.log_sum_exp = std::fma(octaves, ln2, static_cast<double>(sums.highest));
  result.entropy_nats = std::max(0.0, std::fma(octaves, ln2, -(sums.weighted / sums.sum)));
  result.top_probability = 1.0 / sums.sum;
  result.top_index = static_cast<std::uint32_t>(sums.first_highest);
  return result;
}

/// @brief The same for each row of logits[results][row_length].
/// @throws InvalidArgument as above, or if the sizes do not fit
template <Element T>
void entropy(std::span<T const> logits, std::size_t row_length, std::span<Entropy> results) {
  detail::check_size("entropy", "logits", logits.size(), row_length * results.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    results[i] = entropy(logits.subspan(i * row_length, row_length));
  }
}

}  // namespace kvfreeze::host
