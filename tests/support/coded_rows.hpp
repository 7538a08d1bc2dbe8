#pragma once

/// @file
/// @brief What compact and frozen rows stand for: keys and values as their codes have them, made
/// anew from the rows that were appended.

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/concepts.hpp>
#include <kvfreeze/host/kernels/key_codes.hpp>
#include <kvfreeze/host/kernels/rotation.hpp>
#include <kvfreeze/host/kernels/value_codes.hpp>
#include <kvfreeze/policy_traits.hpp>

#include "reference_cache.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

namespace kvfreeze_test {

/// Where a row is, as the ladder counts: 0 frozen, then the compact levels, then exact.
namespace rung {
inline constexpr int evicted = -2;
inline constexpr int asleep = -1;
inline constexpr int frozen = 0;
template <class Cache>
inline constexpr int exact = Cache::layout_type::compact_rows::levels + 1;
}  // namespace rung

/// Does the cache hold rows through codes?
template <class Cache>
inline constexpr bool has_compact_rows = Cache::layout_type::compact_rows::levels > 0;

/// @brief Rung of each of the first `rows` rows of a lane.
/// @param lane of the sequence, all layers counted
template <class Cache>
std::vector<int> lane_rungs(Cache const& cache, kvfreeze::Sequence sequence, int lane, int rows) {
  using kvfreeze::Fidelity;
  constexpr int page = Cache::layout_type::page_tokens;
  auto const ref = cache.memory().lane(sequence.index, static_cast<std::uint32_t>(lane));
  std::map<std::uint32_t, int> level_of;
  for (std::size_t level = 0; level < Cache::layout_type::compact_rows::levels; ++level) {
    for (int slot = 0; slot < ref.lane->pools[level].slots; ++slot) {
      level_of[ref.code_granule(level, static_cast<std::uint32_t>(slot))] =
          static_cast<int>(level) + 1;
    }
  }
  std::vector<int> out;
  for (int row = 0; row < rows; ++row) {
    auto const granule = static_cast<std::uint32_t>(row / page);
    switch (ref.fidelity(granule)) {
      case Fidelity::exact:
        out.push_back(rung::exact<Cache>);
        break;
      case Fidelity::compact:
        out.push_back(level_of.at(granule));
        break;
      case Fidelity::frozen:
        out.push_back(rung::frozen);
        break;
      case Fidelity::asleep:
        out.push_back(rung::asleep);
        break;
      default:
        out.push_back(rung::evicted);
    }
  }
  return out;
}

/// @brief Keys and values of coded rows, computed when they are asked for and kept.
template <class Cache>
class CodedRows {
  using T = typename Cache::element_type;
  using Digest = kvfreeze::detail::digest_t<typename Cache::scorer_type>;
  using Levels = typename Cache::layout_type::compact_rows;

  static constexpr int screen_bits = kvfreeze::detail::digest_bits<Digest>();
  static constexpr int group_rows = Digest::group_rows;

 public:
  /// @param cache, sequence where digests are read that depend on the queries; the codes are made
  /// anew
  CodedRows(Cache const& cache, kvfreeze::Sequence sequence, ReferenceCache<T> const& reference)
      : dim_(cache.shape().head_dim), cache_(&cache), sequence_(sequence), reference_(&reference) {}

  /// Rows changed: everything is computed anew.
  void forget() { groups_.clear(); }

  /// K of a row as level `at` has it; 0 is the digest of frozen rows.
  [[nodiscard]] float const* key(int layer, int head, int row, int at) {
    return group(layer, head, row / group_rows).keys.at(static_cast<std::size_t>(at)).data() +
           offset(row);
  }

  /// V of a row as level `at` >= 1 has it; at 0 the lane's mean value.
  [[nodiscard]] float const* value(int layer, int head, int row, int at) {
    return at == 0 ? group(layer, head, 0).means.data()
                   : group(layer, head, row / group_rows)
                             .values.at(static_cast<std::size_t>(at - 1))
                             .data() +
                         offset(row);
  }

 private:
  struct Group {
    std::array<std::vector<float>, Levels::slots + 1> keys;  // digest, then levels
    std::array<std::vector<float>, Levels::slots> values;
    std::vector<float> means;  // of the first group
  };

  [[nodiscard]] std::size_t offset(int row) const {
    return static_cast<std::size_t>(row % group_rows) * static_cast<std::size_t>(dim_);
  }

  Group const& group(int layer, int head, int index) {
    auto const [at, fresh] = groups_.try_emplace(std::tuple(layer, head, index));
    if (fresh) {
      fill(at->second, layer, head, index);
    }
    return at->second;
  }

  void fill(Group& out, int layer, int head, int index) {
    auto const dim = static_cast<std::size_t>(dim_);
    auto const size = dim * group_rows;
    std::vector<float> keys(size);
    std::vector<float> values(size);
    for (int row = 0; row < group_rows; ++row) {
      T const* const k = reference_->k(layer, head, index * group_rows + row);
      T const* const v = reference_->v(layer, head, index * group_rows + row);
      for (std::size_t d = 0; d < dim; ++d) {
        keys[offset(row) + d] = kvfreeze::to_float(k[d]);
        values[offset(row) + d] = kvfreeze::to_float(v[d]);
      }
    }
    if (index == 0) {
      out.means.assign(dim, 0.0F);
      for (std::size_t i = 0; i < size; ++i) {
        out.means[i % dim] += values[i] / static_cast<float>(group_rows);
      }
    }
    auto const scales = scales_of(layer, head, index, keys);
    auto const decoded = [&](int bits) {
      std::vector<float> coded(size);
      int const residual = bits - screen_bits;
      for (std::size_t i = 0; i < size; ++i) {
        auto const& [origin, cell, screen] = scales[i % dim];
        float const part = cell / static_cast<float>(1 << residual);
        float const exact = part > 0.0F ? (keys[i] - origin) / part : 0.0F;
        float const highest = static_cast<float>((1 << (screen + residual)) - 1);
        coded[i] = origin + (std::clamp(std::floor(exact), 0.0F, highest) + 0.5F) * part;
      }
      return coded;
    };
    out.keys[0] = decoded(screen_bits);
    std::vector<float> const means = index == 0 ? out.means : group(layer, head, 0).means;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (fill_level<I>(out, decoded(Levels::key_bits[I]), values, means), ...);
    }(std::make_index_sequence<static_cast<std::size_t>(Levels::levels)>{});
  }

  /// How the screen codes a channel: where cells begin, how wide they are, bits of their number.
  struct ChannelScale {
    float origin;
    float cell;
    int bits;
  };

  std::vector<ChannelScale> scales_of(int layer, int head, int index,
                                      std::vector<float> const& keys) const {
    auto const dim = static_cast<std::size_t>(dim_);
    std::vector<ChannelScale> out(dim);
    if constexpr (kvfreeze::detail::WeighsChannels<Digest>) {
      constexpr bool by_layer = Cache::layout_type::grouping == kvfreeze::Grouping::layer;
      int const kv_heads = cache_->shape().kv_heads;
      int const lane = by_layer ? layer : layer * kv_heads + head;
      auto const codes = Digest::codes(cache_->memory()
                                           .lane(sequence_.index, static_cast<std::uint32_t>(lane))
                                           .digest(index, by_layer ? head : 0),
                                       dim_);
      for (std::size_t c = 0; c < dim; ++c) {
        int const planes = kvfreeze::host::planes_of(codes.quarters, static_cast<int>(c / 4));
        out[c] = {kvfreeze::to_float(codes.origins[c]),
                  std::ldexp(kvfreeze::to_float(codes.quarters[c]), 2 - 2 * planes), 2 * planes};
      }
    } else {
      std::vector<std::byte> planes(Digest::bytes(dim_));
      std::vector<kvfreeze::Half> scales(2 * dim);
      kvfreeze::host::encode_key_codes<screen_bits>(keys.data(), group_rows, dim_, planes.data(),
                                                    scales.data(), scales.data() + dim);
      for (std::size_t c = 0; c < dim; ++c) {
        out[c] = {kvfreeze::to_float(scales[c]), kvfreeze::to_float(scales[dim + c]), screen_bits};
      }
    }
    return out;
  }

  template <std::size_t Level>
  void fill_level(Group& out, std::vector<float> keys, std::vector<float> const& values,
                  std::vector<float> const& means) const {
    constexpr int bits = Levels::value_bits[Level];
    out.keys[Level + 1] = std::move(keys);
    out.values[Level] = values;
    std::vector<std::byte> codes(kvfreeze::host::value_code_bytes<bits>(dim_));
    for (int row = 0; row < group_rows; ++row) {
      float* const v = out.values[Level].data() + offset(row);
      kvfreeze::host::subtract(v, means.data(), dim_);
      kvfreeze::host::rotate(v, dim_);
      auto const scale = kvfreeze::host::encode_values<bits>(v, dim_, codes.data());
      kvfreeze::host::decode_values<bits>(codes.data(), scale, dim_, v);
      kvfreeze::host::rotate(v, dim_);
      kvfreeze::host::add_scaled(v, 1.0F, means.data(), dim_);
    }
  }

  int dim_;
  Cache const* cache_;
  kvfreeze::Sequence sequence_;
  ReferenceCache<T> const* reference_;
  std::map<std::tuple<int, int, int>, Group> groups_;
};

}  // namespace kvfreeze_test
