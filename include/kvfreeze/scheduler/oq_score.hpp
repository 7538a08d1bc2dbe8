#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace kvfreeze {

/// @brief ARKV's layer score "OQ": how much a layer's attention suffers from quantised rows.
///
/// Source: ARKV (arXiv 2603.08727) and its code. From the attention of a prompt's last queries over
/// the keys before them: the dispersion -Σ p ln p, the variance over the queries summed over heads
/// and keys, and the kurtosis likewise; OQ = dispersion^(1/τ1) variance^(1/τ2) kurtosis^(1/τ3).
/// Only ratios between layers count: measured at prefill they are a sequence's shares,
/// @see SequenceShares, or over a text a table's.
struct OqScore {
  double dispersion = 0.0;
  double variance = 0.0;
  double kurtosis = 0.0;

  /// The published temperatures.
  static constexpr double temperatures[3] = {7.774, 5.407, 5.528};

  /// @brief Adds one query head.
  /// @param weights [queries][keys], softmax weights; the rows need not sum to 1
  /// @param queries at least 2
  void add(std::span<float const> weights, std::size_t queries) {
    std::size_t const keys = weights.size() / queries;
    for (float const p : weights) {
      dispersion -= static_cast<double>(p) * std::log(static_cast<double>(p) + 1e-10);
    }
    auto const n = static_cast<double>(queries);
    for (std::size_t key = 0; key < keys; ++key) {
      double mean = 0.0;
      for (std::size_t i = 0; i < queries; ++i) {
        mean += static_cast<double>(weights[i * keys + key]) / n;
      }
      double second = 0.0;
      double fourth = 0.0;
      for (std::size_t i = 0; i < queries; ++i) {
        double const square = std::pow(static_cast<double>(weights[i * keys + key]) - mean, 2);
        second += square / n;
        fourth += square * square / n;
      }
      variance += second * n / (n - 1.0);
      double const floor = std::max(second, 1e-8);
      kurtosis += fourth / (floor * floor);
    }
  }

  [[nodiscard]] double value(double const (&tau)[3] = temperatures) const noexcept {
    return std::pow(std::max(dispersion, 0.0), 1.0 / tau[0]) * std::pow(variance, 1.0 / tau[1]) *
           std::pow(kurtosis, 1.0 / tau[2]);
  }

  /// @brief Parts of full precision by layer: OQ over the largest OQ, as published.
  static std::vector<float> ratios(std::span<OqScore const> layers) {
    double most = 0.0;
    for (OqScore const& layer : layers) {
      most = std::max(most, layer.value());
    }
    std::vector<float> result;
    for (OqScore const& layer : layers) {
      result.push_back(most > 0.0 ? static_cast<float>(layer.value() / most) : 1.0F);
    }
    return result;
  }
};

}  // namespace kvfreeze
