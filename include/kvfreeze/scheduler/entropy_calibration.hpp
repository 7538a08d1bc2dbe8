#pragma once

/// @file
/// @brief Entropies of a model's lanes, measured once: how a budget is divided by them, and the
/// file that keeps them.

#include <kvfreeze/error.hpp>
#include <kvfreeze/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <istream>
#include <ostream>
#include <span>
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

  /// @brief Writes a small text file: format and version, shape, a line of bits for each layer.
  void save(std::ostream& out) const {
    out << "kvfreeze entropies 1\nlayers " << shape.layers << " query_heads " << shape.query_heads
        << " kv_heads " << shape.kv_heads << " head_dim " << shape.head_dim << '\n';
    for (std::size_t i = 0; i < bits.size(); ++i) {
      bool const ends = (i + 1) % static_cast<std::size_t>(shape.kv_heads) == 0;
      out << bits[i] << (ends ? '\n' : ' ');
    }
  }

  /// @brief Reads it back.
  /// @param expected the model's shape
  /// @throws InvalidArgument if it is no such file, of another version, for another shape,
  /// truncated, or holds what is no entropy; the message has both shapes
  static EntropyCalibration load(std::istream& in, Shape const& expected) {
    std::string first;
    std::getline(in, first);
    if (first != "kvfreeze entropies 1") {
      throw InvalidArgument("EntropyCalibration::load(): '" + first.substr(0, 40) +
                            "' is not 'kvfreeze entropies 1'");
    }
    EntropyCalibration result;
    Shape& s = result.shape;
    std::string words[4];
    in >> words[0] >> s.layers >> words[1] >> s.query_heads >> words[2] >> s.kv_heads >> words[3] >>
        s.head_dim;
    if (!in || words[0] != "layers" || words[1] != "query_heads" || words[2] != "kv_heads" ||
        words[3] != "head_dim") {
      throw InvalidArgument("EntropyCalibration::load(): the second line is not a shape");
    }
    if (s.layers != expected.layers || s.query_heads != expected.query_heads ||
        s.kv_heads != expected.kv_heads || s.head_dim != expected.head_dim) {
      throw InvalidArgument("EntropyCalibration::load(): the file is for " + describe(s) +
                            ", the model has " + describe(expected));
    }
    auto const lanes = static_cast<std::size_t>(s.layers) * static_cast<std::size_t>(s.kv_heads);
    for (float h = 0.0F; result.bits.size() < lanes && in >> h;) {
      if (!(h >= 0.0F && h <= 64.0F)) {
        throw InvalidArgument("EntropyCalibration::load(): lane " +
                              std::to_string(result.bits.size()) + " has " + std::to_string(h) +
                              " bits, outside [0, 64]");
      }
      result.bits.push_back(h);
    }
    std::string more;
    if (result.bits.size() < lanes || in >> more) {
      throw InvalidArgument("EntropyCalibration::load(): there are " +
                            (more.empty() ? std::to_string(result.bits.size())
                                          : "more than " + std::to_string(lanes)) +
                            " entropies for " + std::to_string(lanes) + " lanes");
    }
    return result;
  }

 private:
  [[nodiscard]] double mean() const noexcept {
    double sum = 0.0;
    for (float const h : bits) {
      sum += h;
    }
    return bits.empty() ? 0.0 : sum / static_cast<double>(bits.size());
  }

  static std::string describe(Shape const& s) {
    return std::to_string(s.layers) + " layers, " + std::to_string(s.query_heads) +
           " query heads, " + std::to_string(s.kv_heads) + " KV heads of " +
           std::to_string(s.head_dim);
  }
};

}  // namespace kvfreeze
