#pragma once

#include <cstdint>
#include <limits>

namespace kvfreeze {

/// What a scheduler knows of a lane when it states its selections. Counts are in granules.
struct LaneFacts {
  static constexpr std::int32_t no_cap = std::numeric_limits<std::int32_t>::max();

  int layer = 0;
  int head = 0;                         ///< KV head, 0 with Grouping::layer
  int layers = 1;                       ///< of the model
  int heads = 1;                        ///< lanes of a layer
  int page_tokens = 1;                  ///< rows of a granule
  std::int32_t granules = 0;            ///< in the lane
  std::int32_t exact = 0;               ///< exact at the moment, protected ones included
  std::int32_t protected_granules = 0;  ///< sinks, window, pins, newborns
  std::int32_t allowed = no_cap;        ///< granules that the byte cap lets the lane hold exact
  float water_level = 0.0F;  ///< the epsilon that meets the byte cap; 0 where the cap is slack
  /// Time that ranking and attending to some takes, relative to attending to all exactly: the
  /// backend's estimate from the lane's own masses when it looked last. Infinite before it did.
  float ladder_cost = std::numeric_limits<float>::infinity();
  /// Entropy of the lane's attention in bits, a running mean, and the mean of it over all lanes;
  /// 0 before anything is known. Only for schedulers that say `needs_entropy`.
  float entropy = 0.0F;
  float mean_entropy = 0.0F;
  /// Part of its layer's budget that the lane's rows would win by their scores, relative to an
  /// equal part. Only for schedulers that say `needs_layer_parts`.
  float layer_part = 1.0F;
  /// What the caller gave the lane in this sequence, KvFreezeCache::set_shares(); 1 until then.
  /// Only for schedulers that say `needs_sequence_shares`.
  float sequence_share = 1.0F;
  std::uint32_t step = 0;
};

}  // namespace kvfreeze
