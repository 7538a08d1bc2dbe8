#pragma once

/// @file
/// @brief Entropies of a model's lanes, measured once: how a budget is divided by them, and the
/// file that keeps them.

#include <kvfreeze/error.hpp>
#include <kvfreeze/scheduler/lane_table.hpp>
#include <kvfreeze/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

namespace kvfreeze {

/// @brief Mean entropy of each lane's attention over a text, in bits.
///
/// Source: SCJedi/entropy-adaptive-kv-cache; a lane is a KV head, its attention the mean of its
/// query heads'.
struct EntropyCalibration {
  Shape shape;
  std::vector<float> bits;  ///< [layers * kv_heads], by layer

  /// @brief How much the lanes differ: standard deviation over mean. Below some .25 budgets by
  /// entropy gain nothing.
  [[nodiscard]] double variation() const noexcept {
    double const m = mean();
    double squares = 0.0;
    for (float const h : bits) {
      squares += (h - m) * (h - m);
    }
    return m > 0.0 ? std::sqrt(squares / static_cast<double>(bits.size())) / m : 0.0;
  }

  /// @brief Shares as published: clamp(H / mean H, low, high). Their mean is not 1: a budget
  /// divided by them is not conserved unless it is a byte cap.
  [[nodiscard]] std::vector<float> shares(float low = 0.3F, float high = 2.5F) const {
    std::vector<float> result;
    result.reserve(bits.size());
    double const m = mean();
    for (float const h : bits) {
      result.push_back(m > 0.0 ? std::clamp(static_cast<float>(h / m), low, high) : 1.0F);
    }
    return result;
  }

  /// @brief The same, scaled so that the lanes together keep the fraction that is asked for: no
  /// lane can keep more than all its rows, and the others get what it cannot use.
  /// @param fraction of the rows, in (0, 1]
  /// @throws InvalidArgument if it is out of range
  [[nodiscard]] std::vector<float> conserved_shares(float fraction, float low = 0.3F,
                                                    float high = 2.5F) const {
    if (!(fraction > 0.0F && fraction <= 1.0F)) {
      throw InvalidArgument("EntropyCalibration::conserved_shares(): fraction = " +
                            std::to_string(fraction) + " is outside (0, 1]");
    }
    std::vector<float> result = shares(low, high);
    auto const kept = [&](double scale) {
      double sum = 0.0;
      for (float const share : result) {
        sum += std::min(1.0, scale * fraction * static_cast<double>(share));
      }
      return sum;
    };
    double least = 0.0;
    double most = 1.0 / (static_cast<double>(fraction) * std::max(0.01, static_cast<double>(low)));
    for (int i = 0; i < 60; ++i) {
      double const scale = 0.5 * (least + most);
      (kept(scale) < fraction * static_cast<double>(result.size()) ? least : most) = scale;
    }
    for (float& share : result) {
      share = static_cast<float>(std::min(static_cast<double>(share) * most, 1.0 / fraction));
    }
    return result;
  }

  /// @brief Writes the table. @see LaneTable
  void save(std::ostream& out) const { LaneTable{"entropies", shape, bits}.save(out); }

  /// @brief Reads it back. @param model the model's shape
  /// @throws InvalidArgument as LaneTable::load()
  static EntropyCalibration load(std::istream& in, Shape const& model) {
    return {model, LaneTable::load(in, "entropies", model, 64.0F).values};
  }

 private:
  [[nodiscard]] double mean() const noexcept {
    double sum = 0.0;
    for (float const h : bits) {
      sum += h;
    }
    return bits.empty() ? 0.0 : sum / static_cast<double>(bits.size());
  }
};

}  // namespace kvfreeze
