#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

namespace kvfreeze {

/// Names one granule of one lane. Lanes are numbered layer by layer within a sequence.
struct TierKey {
  std::uint32_t sequence = 0;
  std::uint32_t lane = 0;
  std::uint32_t granule = 0;

  friend constexpr auto operator<=>(TierKey const&, TierKey const&) = default;
};

/// K and V of one granule, to be written. Both spans have `TierGeometry::part_bytes` bytes.
struct StoreRequest {
  TierKey key;
  std::span<std::byte const> k;
  std::span<std::byte const> v;
};

/// Room for K and V of one granule, to be read.
struct LoadRequest {
  TierKey key;
  std::span<std::byte> k;
  std::span<std::byte> v;
};

/// What a tier may be asked for; told once, before the first request.
struct TierGeometry {
  std::uint32_t sequences = 0;  ///< TierKey::sequence is below this
  std::uint32_t lanes = 0;      ///< TierKey::lane is below this
  std::uint32_t granules = 0;   ///< TierKey::granule is below this
  std::size_t part_bytes = 0;   ///< bytes of a granule's K; its V has as many
};

/// What becomes of a row that is not active.
enum class TierKind : std::uint8_t {
  holding,     ///< the tier keeps a copy; the cache gives the row's memory back
  in_place,    ///< the row stays where it is and is skipped; nothing is stored or loaded
  discarding,  ///< the row is gone: its granule is evicted
};

}  // namespace kvfreeze
