#pragma once

/// @file
/// @brief Who of the lanes gets how much of a budget, relative to the mean lane.

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/scheduler/lane_facts.hpp>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace kvfreeze {

/// @brief Divides a budget among lanes: `float of(LaneFacts const&) const noexcept`, finite and
/// >= 0, 1 for the mean lane.
template <class S>
concept LaneShares = std::copyable<S> && requires(S const& s, LaneFacts const& lane) {
  { s.of(lane) } noexcept -> std::same_as<float>;
};

/// All lanes alike.
struct EqualShares {
  KVFREEZE_HD constexpr float of(LaneFacts const&) const noexcept { return 1.0F; }
};

/// @brief Lower layers get more, linearly.
///
/// Source: PyramidKV (arXiv 2406.02069), as kvpress has it: the last layer gets 1/β of the mean,
/// the first 2 - 1/β.
struct PyramidShares {
  float beta = 20.0F;  ///< in [1, 2^20]; 1: all alike

  KVFREEZE_HD float of(LaneFacts const& lane) const noexcept {
    if (lane.layers < 2) {
      return 1.0F;
    }
    float const least = detail::quotient(1.0F, beta);
    float const at = detail::quotient(static_cast<float>(lane.layers - 1 - lane.layer),
                                      static_cast<float>(lane.layers - 1));
    return detail::fused(2.0F - 2.0F * least, at, least);
  }

  /// @throws InvalidArgument if `beta` is out of its range
  void validate() const { detail::require_range("PyramidShares::beta", beta, 1, 1 << 20); }
};

/// @brief Lanes whose attention is spread get more: clamp(H / mean H, low, high) while the model
/// runs.
///
/// Source: the entropy-adaptive cache (SCJedi/entropy-adaptive-kv-cache), which calibrates H
/// beforehand; here it is the running mean of the lane's own attention. A byte cap conserves the
/// sum, a fraction does not, as published.
struct EntropyShares {
  static constexpr bool needs_entropy = true;

  float low = 0.3F;   ///< least share, in [0, 1]
  float high = 2.5F;  ///< largest, in [1, 1024]

  KVFREEZE_HD float of(LaneFacts const& lane) const noexcept {
    return lane.mean_entropy > 0.0F
               ? detail::clamped(detail::quotient(lane.entropy, lane.mean_entropy), low, high)
               : 1.0F;
  }

  /// @throws InvalidArgument if a field is out of its range
  void validate() const {
    detail::require_range("EntropyShares::low", low, 0, 1);
    detail::require_range("EntropyShares::high", high, 1, 1024);
  }
};

/// @brief Lanes of a layer compete by their rows' scores; each is guaranteed a part.
///
/// Source: AdaKV (arXiv 2407.11550): with `safeguard` 1 all alike, with 0 the layer's highest rows
/// stay, whichever head they belong to.
struct HeadSplitShares {
  static constexpr bool needs_layer_parts = true;

  float safeguard = 0.2F;  ///< part that is dealt equally, in [0, 1]

  KVFREEZE_HD float of(LaneFacts const& lane) const noexcept {
    return detail::fused(1.0F - safeguard, lane.layer_part, safeguard);
  }

  /// @throws InvalidArgument if `safeguard` is out of its range
  void validate() const { detail::require_range("HeadSplitShares::safeguard", safeguard, 0, 1); }
};

/// @brief What the caller gives each sequence, by KvFreezeCache::set_shares(): measured on its
/// prompt, as ARKV's OQ score is, or chosen for a request. All alike until then.
struct SequenceShares {
  static constexpr bool needs_sequence_shares = true;

  KVFREEZE_HD constexpr float of(LaneFacts const& lane) const noexcept {
    return lane.sequence_share;
  }
};

/// @brief A table of shares, one for each lane of the model: from a calibration.
///
/// It lies within the scheduler, so that it reaches a kernel by value: a model with more lanes
/// needs a larger `Most`, of which 1024 still fit a launch.
/// @tparam Most lanes, layers times KV heads
template <int Most = 640>
struct TableShares {
  static constexpr int most = Most;
  static constexpr float unit = 4096.0F;  ///< entries of the mean lane

  std::uint16_t entries[static_cast<std::size_t>(Most)] = {};  ///< by layer, then head
  std::int32_t lanes = 0;                                      ///< in use; 0: all lanes alike

  KVFREEZE_HD constexpr float of(LaneFacts const& lane) const noexcept {
    int const index = lane.layer * lane.heads + lane.head;
    return index < lanes ? static_cast<float>(entries[index]) / unit : 1.0F;
  }

  /// @brief A table of these shares, to 1/4096.
  /// @param shares [layers * heads], by layer, in [0, 15]
  /// @throws InvalidArgument if there are more than `Most`, or one is out of range
  static TableShares from(std::span<float const> shares) {
    if (shares.size() > static_cast<std::size_t>(Most)) {
      throw InvalidArgument("TableShares<" + std::to_string(Most) + ">: there are " +
                            std::to_string(shares.size()) + " lanes");
    }
    TableShares table;
    for (float const share : shares) {
      detail::require_range("TableShares::from(): a share", share, 0, 15);
      table.entries[table.lanes++] = static_cast<std::uint16_t>(std::lround(share * unit));
    }
    return table;
  }
};

namespace detail {

/// @brief Granules of a lane: its share of `granules`, or of `fraction` of its own, or all.
KVFREEZE_HD inline std::int32_t lane_budget(LaneFacts const& lane, int granules, float fraction,
                                            float share) noexcept {
  if (granules == 0 && !(fraction > 0.0F)) {
    return lane.granules;
  }
  float const mean =
      granules > 0 ? static_cast<float>(granules) : fraction * static_cast<float>(lane.granules);
  float const wanted = mean * share;
  return wanted < static_cast<float>(lane.granules) ? static_cast<std::int32_t>(wanted)
                                                    : lane.granules;
}

}  // namespace detail

static_assert(LaneShares<EqualShares> && LaneShares<PyramidShares> && LaneShares<EntropyShares> &&
              LaneShares<HeadSplitShares> && LaneShares<SequenceShares> &&
              LaneShares<TableShares<>>);

}  // namespace kvfreeze
