#pragma once

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/host/kernels/folded_queries.hpp>

#include "attention_data.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

/// Keys of one group in KeyCodes<Bits>, and their codes one by one; with Total > Bits as the screen
/// of NestedKeyCodes<Bits, Total>.
template <int Bits, int Total = Bits>
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
    kvfreeze::host::encode_key_codes<Bits, Total>(keys.data(), 64, dim, group.data(), scales,
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

/// Memory for folded queries.
struct FoldedMemory {
  std::vector<std::int8_t> weights;
  std::vector<kvfreeze::host::FoldScale> scales;
  kvfreeze::host::FoldedQueries view;

  FoldedMemory(int groups, int heads, int dim)
      : weights(kvfreeze::host::FoldedQueries::weight_bytes(groups, heads, dim), 77),
        scales(static_cast<std::size_t>(groups * heads)),
        view{weights.data(), scales.data(), heads, dim} {}
};
