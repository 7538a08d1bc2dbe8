#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>

namespace kvfreeze {

/// @brief The channels of 64 keys that matter most to the lane's queries, at 8 bits; the others
/// count as 0.
///
/// After InfiniGen (OSDI 2024), which estimates attention from a part of the channels; it rotates
/// the weights beforehand so that few channels carry most, here the channels with the largest
/// E[q²] Σk² are taken as they are, anew for each group.
///
/// Format: [channels: uint16][scales: float][codes: channel by channel, 64 int8].
/// @tparam Percent of the channels, in [1, 100], rounded up to a whole number
template <int Percent = 20>
struct PartialKeys {
  static_assert(Percent >= 1 && Percent <= 100, "kvfreeze: Percent must be in [1, 100]");

  static constexpr int group_rows = 64;
  static constexpr int most_dim = 512;

  static KVFREEZE_HD constexpr int channels(int dim) noexcept { return (dim * Percent + 99) / 100; }

  static KVFREEZE_HD constexpr std::size_t bytes(int dim) noexcept {
    auto const kept = static_cast<std::size_t>(channels(dim));
    return (kept * (sizeof(std::uint16_t) + sizeof(float) + group_rows) + 15U) / 16U * 16U;
  }

  static void encode(float const* keys, int dim, std::byte* group) noexcept {
    encode(keys, nullptr, dim, group);
  }

  static void encode(float const* keys, float const* importance, int dim,
                     std::byte* group) noexcept {
    std::array<float, most_dim> energy{};
    std::array<float, most_dim> largest{};
    for (int i = 0; i < group_rows * dim; ++i) {
      auto const d = static_cast<std::size_t>(i % dim);
      energy[d] = detail::fused(keys[i], keys[i], energy[d]);
      largest[d] = std::max(largest[d], std::fabs(keys[i]));
    }
    std::array<std::uint16_t, most_dim> order{};
    std::iota(order.begin(), order.begin() + dim, std::uint16_t{0});
    auto const worth = [&](std::uint16_t d) {
      return importance == nullptr ? energy[d] : energy[d] * importance[d];
    };
    std::sort(order.begin(), order.begin() + dim, [&](auto a, auto b) {
      return worth(a) > worth(b) || (worth(a) == worth(b) && a < b);
    });
    int const kept = channels(dim);
    auto const [list, scales, codes] = parts(group, kept);
    for (int i = 0; i < kept; ++i) {
      std::uint16_t const channel = order[static_cast<std::size_t>(i)];
      float const scale = detail::quotient(largest[channel], 127.0F);
      std::memcpy(list + i * channel_bytes, &channel, sizeof channel);
      std::memcpy(scales + i * scale_bytes, &scale, sizeof scale);
      for (int row = 0; row < group_rows; ++row) {
        float const x = scale > 0.0F ? detail::quotient(keys[row * dim + channel], scale) : 0.0F;
        codes[i * group_rows + row] = static_cast<std::byte>(
            static_cast<std::int8_t>(std::clamp(std::nearbyint(x), -127.0F, 127.0F)));
      }
    }
  }

  static void scan(DigestQuery const& query, std::byte const* group, float* logits,
                   std::ptrdiff_t stride) noexcept {
    int const kept = channels(query.dim);
    auto const [list, scales, codes] = parts(group, kept);
    for (int h = 0; h < query.heads; ++h) {
      std::array<float, group_rows> sums{};
      for (int i = 0; i < kept; ++i) {
        std::uint16_t channel = 0;
        float scale = 0.0F;
        std::memcpy(&channel, list + i * channel_bytes, sizeof channel);
        std::memcpy(&scale, scales + i * scale_bytes, sizeof scale);
        float const weight = query.values[h * query.dim + channel] * scale;
        for (int row = 0; row < group_rows; ++row) {
          auto& sum = sums[static_cast<std::size_t>(row)];
          auto const code = static_cast<std::int8_t>(codes[i * group_rows + row]);
          sum = detail::fused(weight, static_cast<float>(code), sum);
        }
      }
      std::copy(sums.begin(), sums.end(), logits + h * stride);
    }
  }

 private:
  static constexpr std::ptrdiff_t channel_bytes = sizeof(std::uint16_t);
  static constexpr std::ptrdiff_t scale_bytes = sizeof(float);

  template <class Byte>
  struct Parts {
    Byte* channels;
    Byte* scales;
    Byte* codes;
  };

  template <class Byte>
  static Parts<Byte> parts(Byte* group, int kept) noexcept {
    Byte* const scales = group + kept * channel_bytes;
    return {group, scales, scales + kept * scale_bytes};
  }
};

static_assert(DigestPolicy<PartialKeys<>>);

}  // namespace kvfreeze
