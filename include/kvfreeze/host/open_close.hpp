#pragma once

#include <kvfreeze/host/plan.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kvfreeze::host {

template <class C>
std::size_t open_sequences(Context<C> const& context) noexcept {
  return static_cast<std::size_t>(std::count_if(context.sequences.begin(), context.sequences.end(),
                                                [](auto const& s) { return s.open; }));
}

/// @brief Takes a sequence that is not in use and empties it. Its share and its budgets are the
/// next replan()'s to say.
/// @param call who asks
/// @param tokens that it will hold
/// @return its index
/// @throws CapacityError if `max_sequences` are open, or the byte cap cannot hold another one
template <class C>
std::uint32_t claim_sequence(Context<C>& context, char const* call, int tokens = 0) {
  auto const found = std::find_if(context.sequences.begin(), context.sequences.end(),
                                  [](auto const& sequence) { return !sequence.open; });
  auto const& limits = context.geometry().limits;
  std::size_t const open_now = open_sequences(context);
  if (found == context.sequences.end()) {
    throw CapacityError(std::string(call) + "(): Limits::max_sequences = " +
                            std::to_string(limits.max_sequences) + " are open",
                        open_now + 1, open_now);
  }
  require_shares(context, call, open_now + 1, tokens);
  auto const index = static_cast<std::uint32_t>(found - context.sequences.begin());
  context.memory.open(index);
  found->open = true;
  found->generation += 1;
  found->length = 0;
  found->step = 0;
  found->share = unlimited;
  found->water_level = 0.0F;
  found->entropies = 0;
  found->lane_entropy = 0.0F;
  found->entropy_mean = 0.0F;
  found->checkpoints = {};
  found->pins.clear();
  found->trigger = context.trigger;
  found->trigger.reset();
  return index;
}

/// Forgets a sequence, gives its memory back and the others its share.
template <class C>
void close_sequence(Context<C>& context, std::uint32_t index) {
  for (std::uint32_t lane = 0; lane < static_cast<std::uint32_t>(context.geometry().lanes);
       ++lane) {
    auto const granules = context.memory.lane(index, lane).granules();
    if (granules > 0) {
      context.tier.erase({index, lane, 0}, static_cast<std::uint32_t>(granules));
    }
  }
  context.memory.close(index);
  context.sequences[index].open = false;
  try {
    replan(context);  // now, not at the next advance(): the others may wait for the room
  } catch (TierError const&) {
    // They keep what they have until then.
  }
}

}  // namespace kvfreeze::host
