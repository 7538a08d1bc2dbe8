#pragma once

/// @file
/// @brief A sequence becomes two.

#include <kvfreeze/host/between_steps.hpp>
#include <kvfreeze/host/limit.hpp>
#include <kvfreeze/host/open_close.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>

namespace kvfreeze::host {

/// @brief Can there be another sequence like this one?
/// @throws InvalidArgument if a step is not finished
/// @throws CapacityError if the byte cap does not hold so many shares
template <class C>
void require_fork(Context<C> const& context, std::uint32_t parent) {
  require_whole_steps(context, "fork", parent);
  require_shares_of(context, "fork", open_sequences(context) + 1);
}

/// @brief Gives the child the granules that the tier holds of the parent.
/// @throws TierError whatever the tier throws
template <class C>
void fork_tier(Context<C>& context, std::uint32_t parent, std::uint32_t child) {
  if constexpr (C::in_place || C::discards) {
    return;
  } else if constexpr (kvfreeze::detail::ForksSequences<typename C::Tier>) {
    context.tier.fork(parent, child);
  } else {
    Geometry const& g = context.geometry();
    Scratch& scratch = context.memory.scratch(0);
    for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(g.lanes); ++lane) {
      LaneRef<C> const ref = context.memory.lane(parent, lane);
      auto const granules = static_cast<std::uint32_t>(ref.granules());
      for (std::uint32_t granule = 0; granule < granules;) {
        std::array<std::uint32_t, transfer_batch> batch{};
        std::size_t count = 0;
        for (; granule < granules && count < batch.size(); ++granule) {
          batch[count] = granule;
          count += (ref.state(granule) & GranuleState::clean) != 0 ? 1 : 0;
        }
        if (count == 0) {
          continue;
        }
        auto const part_of = [&](std::size_t i) {
          return scratch.loaded() + i * g.granule_bytes();
        };
        for (std::size_t i = 0; i < count; ++i) {
          ::new (scratch.loads() + i) LoadRequest{ref.key(batch[i]),
                                                  {part_of(i), g.part_bytes},
                                                  {part_of(i) + g.part_bytes, g.part_bytes}};
        }
        context.tier.load({scratch.loads(), count});
        for (std::size_t i = 0; i < count; ++i) {
          ::new (scratch.stores() + i) StoreRequest{{child, lane, batch[i]},
                                                    {part_of(i), g.part_bytes},
                                                    {part_of(i) + g.part_bytes, g.part_bytes}};
        }
        context.tier.store({scratch.stores(), count});
      }
    }
  }
}

/// @brief Makes a claimed and planned sequence what the parent is.
/// @throws CapacityError if the parent holds more than a share
/// @throws TierError whatever the tier throws
template <class C>
void fill_fork(Context<C>& context, std::uint32_t parent, std::uint32_t child) {
  SequenceRecord<C> const& from = context.sequences[parent];
  SequenceRecord<C>& to = context.sequences[child];
  Ledger held;
  context.memory.count(parent, held);
  if (!C::in_place && held.resident() > from.share) {
    throw CapacityError("fork(): the sequence holds " + std::to_string(held.resident()) +
                            " bytes, its share of Limits::resident_bytes beside a copy is " +
                            std::to_string(from.share),
                        held.resident(), from.share);
  }
  std::uint32_t const generation = to.generation;
  to = from;
  to.generation = generation;
  context.memory.copy(parent, child);
  fork_tier(context, parent, child);
}

}  // namespace kvfreeze::host
