#pragma once

#include <kvfreeze/host/composition.hpp>
#include <kvfreeze/tier/host_tier.hpp>

#include <cstddef>

namespace kvfreeze::gpu {

/// @brief The axes of a cache on the device and what follows from them. The same as on the host but
/// for the tier, which is one of the device's.
template <LayoutPolicy L, ScorerPolicy S, SchedulerPolicy D, TriggerPolicy R>
struct Composition : host::Composition<L, S, D, HostTier, R> {
  using Base = host::Composition<L, S, D, HostTier, R>;

  /// Is a row exact or frozen, and the current query asks the digests which it shall be?
  static constexpr bool recalls = Base::has_digest && !Base::has_levels;

  /// Without digests masses are those of the rows that attention saw, noted behind it.
  static constexpr bool notes_masses = Base::needs_mass && !Base::has_digest;

  /// Does the scorer go by the norms of keys?
  static constexpr bool needs_norms = S::evidence == Evidence::key;

  // The device cannot call the host's constexpr functions, but reads what they gave.

  /// Bits of a V code of a compact level.
  template <int Level>
  static constexpr int value_bits = L::compact_rows::value_bits[static_cast<std::size_t>(Level)];

  /// Lower bits of a key in a compact level's pool.
  template <int Level>
  static constexpr int key_residual = Base::residual_bits(static_cast<std::size_t>(Level));
};

}  // namespace kvfreeze::gpu
