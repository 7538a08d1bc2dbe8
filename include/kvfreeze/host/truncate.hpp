#pragma once

#include <kvfreeze/host/make_room.hpp>

#include <algorithm>
#include <functional>

namespace kvfreeze::host {

/// Makes room for `extra` granules without touching those of [first, last), which come back.
template <class C>
void make_room_outside(LaneJob<C> const& job, int extra, std::uint32_t first, std::uint32_t last) {
  if constexpr (!C::in_place) {
    LaneRef<C> const& ref = job.ref;
    int const allowed = allowed_granules<C>(job.geometry(), ref.lane->budget, ref.lane->rows);
    if (ref.lane->exact + extra <= allowed) {
      return;
    }
    constexpr std::uint8_t held = GranuleState::pinned | GranuleState::carried;
    for (std::uint32_t granule = first; granule < last; ++granule) {
      auto& state = ref.state(granule);
      state = static_cast<std::uint8_t>(state & ~GranuleState::carried);
      if ((state & GranuleState::pinned) == 0) {
        state |= held;
      }
    }
    auto const restore = [&] {
      for (std::uint32_t granule = first; granule < last; ++granule) {
        auto& state = ref.state(granule);
        if ((state & GranuleState::carried) != 0) {
          state = static_cast<std::uint8_t>(state & ~held);
        }
      }
    };
    try {
      make_room(job, ref.lane->exact + extra - allowed, Victims::any);
    } catch (...) {
      restore();
      throw;
    }
    restore();
  }
}

/// @brief Forgets the rows of a lane from `rows` on.
///
/// Granules whose keys fall out of the digest (their group is not full any more) are thawed first,
/// so that a failing tier leaves the lane as it was.
/// @throws TierError whatever the tier throws
template <class C>
void truncate_lane(LaneJob<C> const& job, int rows) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  if (rows >= lane.rows) {
    return;
  }
  int const groups = C::has_digest ? rows / std::max(C::Digest::group_rows, 1) : 0;
  auto const kept = static_cast<std::uint32_t>(g.granules(rows));
  auto const total = static_cast<std::uint32_t>(ref.granules());
  auto tail = static_cast<std::uint32_t>(C::has_digest ? groups * C::tail_granules
                                                       : std::max(g.granules(rows) - 1, 0));
  wake_where(ref, [&](std::uint32_t granule, Timer const&) { return granule >= tail; });
  if constexpr (!C::discards) {
    std::uint32_t* const granules = job.scratch->list();
    int count = 0;
    for (std::uint32_t granule = tail; granule < kept; ++granule) {
      if (ref.fidelity(granule) == Fidelity::frozen) {
        granules[count++] = granule;
      }
    }
    if (count > 0) {
      make_room_outside(job, count, tail, kept);
      thaw_granules(job.context->memory, ref, job.context->tier, *job.scratch, granules, count,
                    job.step());
    }
  }
  // Nothing below can fail.
  std::uint32_t* const slots = job.scratch->slots();
  int count = 0;
  ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
    if (granule >= kept) {
      slots[count++] = slot;
    }
  });
  std::sort(slots, slots + count, std::greater<>());
  for (int i = 0; i < count; ++i) {
    release_slot(ref, slots[i]);
  }
  for (std::uint32_t granule = kept; granule < total; ++granule) {
    std::uint8_t const state = ref.state(granule);
    lane.evicted -= GranuleState::fidelity(state) == Fidelity::evicted ? 1 : 0;
    lane.forced -= (state & GranuleState::forced) != 0 ? 1U : 0U;
    // In place, a slot without its granule must not look exact.
    ref.state(granule) = static_cast<std::uint8_t>(Fidelity::evicted);
  }
  std::uint32_t erase_from = kept;
  if (rows % g.page != 0) {  // the tier's copy of the cut granule would be stale
    erase_from -= 1;
    ref.state(erase_from) &= static_cast<std::uint8_t>(~GranuleState::clean);
  }
  if (total > erase_from) {
    job.context->tier.erase(ref.key(erase_from), total - erase_from);
  }
  lane.rows = rows;
  if constexpr (C::has_digest) {
    job.context->memory.resize_digests(ref, groups);
  }
  if constexpr (C::in_place) {
    lane.slots = static_cast<int>(kept);
  }
  lane.ordered = lane.ordered || lane.slots == 0;
  lane.tail.fill(no_slot);
  ref.for_each_exact(
      [&](std::uint32_t slot, std::uint32_t granule) { note_tail(ref, granule, slot); });
}

}  // namespace kvfreeze::host
