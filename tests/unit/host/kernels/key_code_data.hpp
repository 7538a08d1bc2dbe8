#pragma once

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>

#include "attention_data.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

/// Keys of one group in KeyCodes<Bits>, and their codes one by one.
template <int Bits>
struct CodedGroup {
  int dim;
  std::vector<float> keys;
  std::vector<std::byte> group;
  std::vector<kvfreeze::Half> minima, steps;
  std::vector<int> codes;  // [64][dim]

  CodedGroup(int channels, unsigned seed, float sigma = 1.0F)
      : dim(channels), keys(normal_numbers(static_cast<std::size_t>(64 * channels), seed, sigma)) {
    for (std::size_t i = 0; i < keys.size(); i += static_cast<std::size_t>(dim)) {
      keys[i] += 30.0F;    // an outlying channel
      keys[i + 3] = 1.5F;  // a constant one
    }
    group.resize(kvfreeze::KeyCodes<Bits>::bytes(dim));
    auto* const scales = reinterpret_cast<kvfreeze::Half*>(
        group.data() + static_cast<std::ptrdiff_t>(8 * Bits * dim));
    kvfreeze::host::encode_key_codes<Bits>(keys.data(), 64, dim, group.data(), scales,
                                           scales + dim);
    minima.assign(scales, scales + dim);
    steps.assign(scales + dim, scales + 2 * dim);
    codes.resize(keys.size());
    namespace kernels = kvfreeze::host::kernels;
    for (int quad = 0; quad < dim / 4; ++quad) {
      std::uint32_t rows[64] = {};
      if constexpr (Bits == 3) {
        kernels::get_plane<2>(group.data(), quad, 1, rows);
        kernels::get_plane<1>(group.data() + kernels::plane_bytes<2>(dim), quad, 0, rows);
      } else {
        kernels::get_plane<Bits>(group.data(), quad, 0, rows);
      }
      for (int r = 0; r < 64; ++r) {
        for (int i = 0; i < 4; ++i) {
          codes[static_cast<std::size_t>(r * dim + 4 * quad + i)] =
              static_cast<int>((rows[r] >> (8 * i)) & 0xFFU);
        }
      }
    }
  }
};

/// Keys of one group in nested codes, and what the format says of them.
template <int Screen, int Total>
struct NestedKeyGroup {
  using Digest = kvfreeze::NestedKeyCodes<Screen, Total>;

  int dim;
  std::vector<float> keys;
  std::vector<float> importance;
  std::vector<std::byte> group;

  NestedKeyGroup(int channels, unsigned seed)
      : dim(channels),
        keys(normal_numbers(static_cast<std::size_t>(64 * channels), seed)),
        importance(normal_numbers(static_cast<std::size_t>(channels), seed + 1)) {
    auto const spread = normal_numbers(static_cast<std::size_t>(dim), seed + 2);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      std::size_t const c = i % static_cast<std::size_t>(dim);
      keys[i] = c % 16 == 3 ? 1.5F                                               // constant
                            : keys[i] * std::exp(spread[c]) + 3.0F * spread[c];  // of unlike width
    }
    for (float& x : importance) {
      x = std::exp(2.0F * x);
    }
    group.resize(Digest::bytes(dim));
    Digest::encode(keys.data(), importance.data(), dim, group.data());
  }

  [[nodiscard]] kvfreeze::host::NestedCodes codes() const {
    return Digest::codes(group.data(), dim);
  }

  [[nodiscard]] int planes(int channel) const {
    return kvfreeze::host::planes_of(codes().quarters, channel / 4);
  }

  [[nodiscard]] float origin(int channel) const {
    return kvfreeze::to_float(codes().origins[channel]);
  }

  /// Width of the cell that the screen leaves.
  [[nodiscard]] float cell(int channel) const {
    return kvfreeze::to_float(codes().quarters[channel]) *
           std::exp2(static_cast<float>(2 - 2 * planes(channel)));
  }

  /// Index of the cell of a key, in parts of 2^-residual of it.
  [[nodiscard]] int code(float key, int channel, int residual) const {
    float const quarter = kvfreeze::to_float(codes().quarters[channel]);
    float const inverse = quarter > 0.0F ? 1.0F / quarter : 0.0F;
    int const bits = 2 * planes(channel) + residual;
    float const exact = (key - origin(channel)) * std::ldexp(inverse, bits - 2);
    return static_cast<int>(std::fmin(std::fmax(exact, 0.0F), static_cast<float>((1 << bits) - 1)));
  }

  /// The screen's cell of a row, read from its planes.
  [[nodiscard]] int screened(int row, int channel) const {
    int unit = 0;
    for (int quad = 0; quad < channel / 4; ++quad) {
      unit += planes(4 * quad);
    }
    int out = 0;
    for (int plane = 0; plane < planes(channel); ++plane) {
      auto const at = static_cast<std::size_t>(64 * (unit + plane) + 4 * (row % 16) + channel % 4);
      out = 4 * out + (std::to_integer<int>(group[at]) >> (2 * (row / 16)) & 3);
    }
    return out;
  }
};

/// Memory for queries folded into nested codes.
struct NestedMemory {
  std::vector<std::int8_t> weights;
  std::vector<kvfreeze::host::FoldScale> scales;
  kvfreeze::host::NestedQueries view;

  NestedMemory(int groups, int heads, int dim, int units)
      : weights(static_cast<std::size_t>(groups * heads *
                                         kvfreeze::host::NestedQueries::line(dim, units)),
                77),
        scales(static_cast<std::size_t>(groups * heads)),
        view{weights.data(), scales.data(), heads, dim, units} {}
};

/// Memory for folded queries.
struct FoldedMemory {
  std::vector<std::int8_t> weights;
  std::vector<kvfreeze::host::FoldScale> scales;
  kvfreeze::host::FoldedQueries view;

  FoldedMemory(int groups, int heads, int dim)
      : weights(kvfreeze::host::FoldedQueries::weight_bytes(groups, heads, dim), 77),
        scales(static_cast<std::size_t>(groups * heads)),
        view{weights.data(), scales.data(), heads, dim, 0} {}
};
