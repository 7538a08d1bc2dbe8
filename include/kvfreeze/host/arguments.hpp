#pragma once

#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/scheduler/rungs.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <type_traits>

namespace kvfreeze::host {

/// @throws InvalidArgument for a part that is not one of its count, or a count beyond the limit
inline void check_part(Geometry const& g, char const* call, Part part) {
  if (part.count < 1 || part.count > g.limits.parts || part.index < 0 || part.index >= part.count) {
    throw InvalidArgument(std::string(call) + "(): part " + std::to_string(part.index) + " of " +
                          std::to_string(part.count) + ", Limits::parts is " +
                          std::to_string(g.limits.parts));
  }
}

/// @throws InvalidArgument for a layer out of range
inline void check_layer(Geometry const& g, char const* call, int layer) {
  if (layer < 0 || layer >= g.shape.layers) {
    throw InvalidArgument(std::string(call) + "(): layer " + std::to_string(layer) +
                          " is outside [0, " + std::to_string(g.shape.layers) + ")");
  }
}

/// @throws InvalidArgument for a layer or a lane out of range
inline void check_lane(Geometry const& g, char const* call, int layer, int lane) {
  check_layer(g, call, layer);
  if (lane < 0 || lane >= g.lanes_per_layer) {
    throw InvalidArgument(std::string(call) + "(): lane " + std::to_string(lane) +
                          " is outside [0, " + std::to_string(g.lanes_per_layer) + ")");
  }
}

/// The largest magnitude that the element type holds; beyond it a row would become infinite.
template <Element T>
constexpr float largest_element() noexcept {
  return std::is_same_v<T, Half>       ? 65504.0F
         : std::is_same_v<T, BFloat16> ? 0x1.FEp127F
                                       : std::numeric_limits<float>::max();
}

/// @throws InvalidArgument naming the first value beyond `largest`
inline void check_finite(char const* call, char const* name, std::span<float const> values,
                         float largest) {
  if (all_finite(values.data(), values.size()) &&
      (largest == std::numeric_limits<float>::max() ||
       std::all_of(values.begin(), values.end(),
                   [largest](float x) { return std::fabs(x) <= largest; }))) {
    return;
  }
  auto const bad = std::find_if(values.begin(), values.end(),
                                [largest](float x) { return !(std::fabs(x) <= largest); });
  if (bad != values.end()) {
    throw InvalidArgument(std::string(call) + "(): " + name + "[" +
                          std::to_string(bad - values.begin()) + "] is " + std::to_string(*bad) +
                          ", must be finite and representable");
  }
}

/// @brief Checks K and V of one step. @return its tokens
/// @param length tokens that the sequence has
/// @throws InvalidArgument, CapacityError
template <Element T>
int check_rows(Geometry const& g, char const* call, int length, int layer, std::span<float const> k,
               std::span<float const> v, Part part) {
  check_layer(g, call, layer);
  check_part(g, call, part);
  auto const& shape = g.shape;
  auto const width =
      static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim);
  if (k.empty() || k.size() % width != 0 || v.size() != k.size()) {
    throw InvalidArgument(std::string(call) + "(): k has " + std::to_string(k.size()) + " and v " +
                          std::to_string(v.size()) +
                          " elements, both must be the same multiple of kv_heads * head_dim = " +
                          std::to_string(width));
  }
  std::size_t const tokens = k.size() / width;
  std::size_t const wanted = static_cast<std::size_t>(length) + tokens;
  auto const most = static_cast<std::size_t>(g.limits.max_tokens);
  if (wanted > most) {
    throw CapacityError(std::string(call) + "(): " + std::to_string(length) + " + " +
                            std::to_string(tokens) +
                            " tokens exceed Limits::max_tokens = " + std::to_string(most),
                        wanted, most);
  }
  check_finite(call, "k", k, largest_element<T>());
  check_finite(call, "v", v, largest_element<T>());
  return static_cast<int>(tokens);
}

/// @throws InvalidArgument for queries of the wrong size or not finite
inline void check_queries(Geometry const& g, char const* call, int layer, std::span<float const> q,
                          int tokens, Part part) {
  check_layer(g, call, layer);
  check_part(g, call, part);
  auto const& shape = g.shape;
  std::size_t const wanted = static_cast<std::size_t>(tokens) *
                             static_cast<std::size_t>(shape.query_heads * shape.head_dim);
  if (q.size() != wanted) {
    throw InvalidArgument(std::string(call) + "(): q has " + std::to_string(q.size()) +
                          " elements, " + std::to_string(tokens) + " * query_heads * head_dim is " +
                          std::to_string(wanted));
  }
  check_finite(call, "q", q, std::numeric_limits<float>::max());
}

/// @throws InvalidArgument if the ladder's thresholds do not ascend over `levels` compact levels
inline void check_rungs(Rungs const& rungs, int levels) {
  float before = rungs.frozen;
  for (int i = 0; i < levels; ++i) {
    float const here = rungs.compact[static_cast<std::size_t>(i)];
    if (!(here >= before)) {
      throw InvalidArgument("the ladder's thresholds must ascend: that of compact level " +
                            std::to_string(i + 1) + " is " + std::to_string(here) +
                            ", below the one before, " + std::to_string(before));
    }
    before = here;
  }
}

/// @throws InvalidArgument if partial()'s results do not fit its queries
inline void check_partial(Geometry const& g, std::span<float const> q, std::span<float const> out,
                          std::span<float const> lse) {
  if (out.size() != q.size() || lse.size() != static_cast<std::size_t>(g.shape.query_heads)) {
    throw InvalidArgument("partial(): out has " + std::to_string(out.size()) + " elements, q has " +
                          std::to_string(q.size()) + "; lse has " + std::to_string(lse.size()) +
                          ", query_heads is " + std::to_string(g.shape.query_heads));
  }
}

/// @throws InvalidArgument unless there is a share in [0, 1024] for each lane
inline void check_shares(std::span<float const> shares, std::size_t lanes) {
  if (shares.size() != lanes) {
    throw InvalidArgument("set_shares(): there are " + std::to_string(shares.size()) +
                          " shares, expected one for each of " + std::to_string(lanes) + " lanes");
  }
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    if (!(shares[lane] >= 0.0F && shares[lane] <= 1024.0F)) {
      throw InvalidArgument("set_shares(): the share of lane " + std::to_string(lane) + " is " +
                            std::to_string(shares[lane]) + ", must be in [0, 1024]");
    }
  }
}

/// @throws InvalidArgument for ranges that are empty, unsorted, overlapping or out of range
inline void check_pins(Limits const& limits, std::span<TokenRange const> ranges) {
  int last = 0;
  int const most = limits.max_tokens;
  for (TokenRange const& range : ranges) {
    if (range.begin < last || range.end <= range.begin || range.end > most) {
      throw InvalidArgument("pin(): range [" + std::to_string(range.begin) + ", " +
                            std::to_string(range.end) + ") must be non-empty, begin at " +
                            std::to_string(last) + " or later and end at " + std::to_string(most) +
                            " or before");
    }
    last = range.end;
  }
}

}  // namespace kvfreeze::host
