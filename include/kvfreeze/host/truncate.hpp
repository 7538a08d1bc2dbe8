#pragma once

#include <kvfreeze/host/make_room.hpp>
#include <kvfreeze/host/query_window.hpp>

#include <algorithm>
#include <functional>
#include <string>

namespace kvfreeze::host {

/// @throws InvalidArgument if `rows` cuts a granule that is gone: its rest cannot come back
template <class C>
void check_cut(LaneJob<C> const& job, int rows) {
  if constexpr (C::discards && C::page > 1) {
    auto const granule = static_cast<std::uint32_t>(rows / C::page);
    if (rows < job.lane().rows && rows % C::page != 0 &&
        job.ref.fidelity(granule) == Fidelity::evicted) {
      throw InvalidArgument("length " + std::to_string(rows) + " cuts the granule of " +
                            std::to_string(C::page) + " rows at " +
                            std::to_string(rows - rows % C::page) + " of layer " +
                            std::to_string(job.layer) + ", which is evicted");
    }
  }
}

/// @brief Forgets the rows of a lane from `rows` on. Cannot fail.
///
/// Frozen granules that are protected now (their group's digest is gone, or the window reaches
/// them) are owed: settle_lane() brings them back.
template <class C>
void cut_lane(LaneJob<C> const& job, int rows) noexcept {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  if (rows >= lane.rows) {
    return;
  }
  job.scratch->commit(lane.rows);
  int const groups = C::has_digest ? rows / std::max(C::Digest::group_rows, 1) : 0;
  auto const kept = static_cast<std::uint32_t>(g.granules(rows));
  auto const total = static_cast<std::uint32_t>(ref.granules());
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
  std::uint32_t erase_from = kept;
  if (rows % g.page != 0) {  // the tier's copy of the cut granule will be stale
    erase_from -= 1;
  }
  for (std::uint32_t granule = kept; granule < total; ++granule) {
    std::uint8_t const state = ref.state(granule);
    lane.evicted -= GranuleState::fidelity(state) == Fidelity::evicted ? 1 : 0;
    lane.forced -= (state & GranuleState::forced) != 0 ? 1U : 0U;
  }
  lane.rows = rows;
  if constexpr (C::has_digest) {
    job.context->memory.resize_digests(ref, groups);
  }
  if constexpr (C::in_place) {
    lane.slots = static_cast<int>(kept);
  }
  forget_queries(job, rows);
  auto const high = static_cast<std::uint32_t>(ref.open_range().high);
  drop_codes_where(ref, job.step(), [&](std::uint32_t granule) { return granule >= high; });
  wake_where(ref, [&](std::uint32_t granule, Timer const&) { return granule >= high; });
  lane.owed = 0;
  for (std::uint32_t granule = high; granule < kept; ++granule) {
    lane.owed += ref.fidelity(granule) == Fidelity::frozen ? 1 : 0;
  }
  if (erase_from < kept && ref.fidelity(erase_from) != Fidelity::frozen) {
    ref.state(erase_from) &= static_cast<std::uint8_t>(~GranuleState::clean);
  } else {
    erase_from = kept;  // still needed
  }
  if (total > erase_from) {
    job.context->tier.erase(ref.key(erase_from), total - erase_from);
  }
  lane.ordered = lane.ordered || lane.slots == 0;
  lane.tail.fill(no_slot);
  ref.for_each_exact(
      [&](std::uint32_t slot, std::uint32_t granule) { note_tail(ref, granule, slot); });
}

/// @brief Brings back what cut_lane() left frozen although it is protected.
/// @throws TierError whatever the tier throws; it is still owed then
template <class C>
void settle_lane(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  if (lane.owed == 0) {
    return;
  }
  auto const high = static_cast<std::uint32_t>(ref.open_range().high);
  auto const kept = static_cast<std::uint32_t>(ref.granules());
  std::uint32_t* const granules = job.scratch->list();
  int count = 0;
  for (std::uint32_t granule = high; granule < kept; ++granule) {
    if (ref.fidelity(granule) == Fidelity::frozen) {
      granules[count++] = granule;
    }
  }
  if constexpr (!C::in_place) {
    yield_codes(job, count, lane.rows);
    int const allowed = allowed_granules(ref, lane.budget, lane.rows);
    make_room(job, lane.exact + count - allowed, Victims::any);
  }
  int const first = lane.slots;
  thaw_granules(job.context->memory, ref, job.context->tier, *job.scratch, granules, count,
                job.step());
  rebuild_sums(job, count, [&](int i) {
    return C::in_place ? granules[i] : static_cast<std::uint32_t>(first + i);
  });
  lane.owed = 0;
  int const cut = job.geometry().granules(lane.rows) - 1;
  if (lane.rows % C::page != 0) {  // rows will be added to it: the tier's copy is stale
    ref.state(static_cast<std::uint32_t>(cut)) &= static_cast<std::uint8_t>(~GranuleState::clean);
    job.context->tier.erase(ref.key(static_cast<std::uint32_t>(cut)), 1);
  }
}

}  // namespace kvfreeze::host
