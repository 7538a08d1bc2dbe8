#pragma once

#include <kvfreeze/host/kernels/dot.hpp>
#include <kvfreeze/host/memory.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

namespace kvfreeze::host {

/// Remembers where the keys that are not in a digest yet lie.
template <class C>
void note_tail(LaneRef<C> const& ref, std::uint32_t granule, std::uint32_t slot) noexcept {
  auto const begin = static_cast<std::uint32_t>(ref.tail_begin());
  if (granule >= begin && granule - begin < ref.lane->tail.size()) {
    ref.lane->tail[granule - begin] = slot;
  }
}

/// @brief Slot of the newest granule, or of another one of the tail.
template <class C>
std::uint32_t tail_slot(LaneRef<C> const& ref, std::uint32_t granule) noexcept {
  if constexpr (C::in_place) {
    return granule;
  } else {
    return ref.lane->tail[granule - static_cast<std::uint32_t>(ref.tail_begin())];
  }
}

/// Writes the mean norm of a granule's keys into its record, for scorers that ask for it.
template <class C>
void note_key_norm(LaneRef<C> const& ref, std::uint32_t slot) noexcept {
  if constexpr (C::Scorer::evidence == Evidence::key) {
    Geometry const& g = *ref.geometry;
    int const dim = g.shape.head_dim;
    int const rows = ref.rows_of(C::in_place ? slot : ref.record(slot).granule);
    float sum = 0.0F;
    for (int i = 0; i < rows * g.heads_per_lane; ++i) {
      sum += std::sqrt(sum_of_squares(ref.k(slot) + static_cast<std::ptrdiff_t>(i) * dim, dim));
    }
    ref.record(slot).value =
        from_float<BFloat16>(sum / static_cast<float>(rows * g.heads_per_lane)).bits;
  }
}

/// Gives a granule of rows up to now unknown a slot at the end of the lane.
template <class C>
std::uint32_t acquire_slot(Memory<C>& memory, LaneRef<C> const& ref, std::uint32_t granule,
                           std::uint32_t step, std::uint16_t value) noexcept {
  auto const slot = C::in_place ? granule : static_cast<std::uint32_t>(ref.lane->slots);
  memory.grow_rows(ref, static_cast<int>(slot) + 1);
  ref.lane->slots = std::max(ref.lane->slots, static_cast<int>(slot) + 1);
  ref.record(slot) = Slot<C>(granule, static_cast<std::uint16_t>(step), value);
  if constexpr (C::needs_queries) {
    std::fill_n(ref.sums(slot), ref.geometry->page, 0U);
  }
  ref.lane->exact += 1;
  ref.lane->ordered = ref.lane->ordered && slot == granule;
  note_tail(ref, granule, slot);
  return slot;
}

/// @brief Takes a slot out of the lane: the last one moves into its place, so that exact rows stay
/// contiguous. O(1) rows.
template <class C>
void release_slot(LaneRef<C> const& ref, std::uint32_t slot) noexcept {
  ref.lane->exact -= 1;
  if constexpr (!C::in_place) {
    auto const last = static_cast<std::uint32_t>(--ref.lane->slots);
    if (slot == last) {
      return;
    }
    std::memcpy(ref.k(slot), ref.k(last), ref.geometry->part_bytes);
    std::memcpy(ref.v(slot), ref.v(last), ref.geometry->part_bytes);
    ref.record(slot) = ref.record(last);
    if constexpr (C::needs_queries) {
      std::copy_n(ref.sums(last), ref.geometry->page, ref.sums(slot));
    }
    ref.lane->ordered = false;
    note_tail(ref, ref.record(slot).granule, slot);
  }
}

/// Granules that the rest of the step's transfer budget pays for.
template <class C>
std::size_t affordable_granules(LaneRef<C> const& ref) noexcept {
  std::size_t const left = ref.lane->transfer_left;
  return left == unlimited ? std::numeric_limits<std::size_t>::max()
                           : left / ref.geometry->granule_bytes();
}

/// Notes bytes that went to or came from the tier.
template <class C>
void pay_transfer(LaneRef<C> const& ref, std::size_t bytes, std::size_t& moved) noexcept {
  moved += bytes;
  ref.lane->transfer_left -= std::min(ref.lane->transfer_left, bytes);
}

/// @brief Leaves out the slots of dirty granules that the transfer budget does not pay for, the
/// last of the list first. @return how many are kept, in order
template <class C>
int keep_affordable(LaneRef<C> const& ref, std::uint32_t* slots, int count) noexcept {
  std::size_t left = affordable_granules(ref);
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    bool const clean = (ref.state(ref.record(slots[i]).granule) & GranuleState::clean) != 0;
    if (clean || left > 0) {
      left -= clean ? 0 : 1;
      slots[kept++] = slots[i];
    }
  }
  return kept;
}

/// @brief Stores the dirty ones of up to `transfer_batch` exact granules.
/// @throws TierError whatever the tier throws; nothing changed then
template <class C>
void store_dirty(LaneRef<C> const& ref, typename C::Tier& tier, Scratch& scratch,
                 std::uint32_t const* slots, int count) {
  Geometry const& g = *ref.geometry;
  std::size_t dirty = 0;
  for (int i = 0; i < count; ++i) {
    std::uint32_t const slot = slots[i];
    std::uint32_t const granule = ref.record(slot).granule;
    if ((ref.state(granule) & GranuleState::clean) == 0) {
      ::new (scratch.stores() + dirty++)
          StoreRequest{ref.key(granule),
                       {reinterpret_cast<std::byte const*>(ref.k(slot)), g.part_bytes},
                       {reinterpret_cast<std::byte const*>(ref.v(slot)), g.part_bytes}};
    }
  }
  if (dirty > 0) {
    tier.store({scratch.stores(), dirty});
    pay_transfer(ref, dirty * g.granule_bytes(), ref.lane->moved_out);
  }
}

/// @brief Lowers exact granules to frozen. Dirty ones are stored first, in batches.
///
/// @param slots the granules' slots, sorted downwards; overwritten
/// @param asleep_until called as f(granule) after each: puts it to sleep if it has a timer
/// @throws TierError whatever the tier throws; granules not yet stored stay exact
template <class C, class Sleep>
void freeze_slots(LaneRef<C> const& ref, typename C::Tier& tier, Scratch& scratch,
                  std::uint32_t const* slots, int count, std::uint32_t step, Sleep&& sleep) {
  for (int done = 0; done < count;) {
    int const batch = std::min(count - done, transfer_batch);
    if constexpr (!C::in_place && !C::discards) {
      store_dirty(ref, tier, scratch, slots + done, batch);
    }
    for (int i = 0; i < batch; ++i) {
      std::uint32_t const slot = slots[done + i];
      std::uint32_t const granule = C::in_place ? slot : ref.record(slot).granule;
      auto& state = ref.state(granule);
      state = static_cast<std::uint8_t>(state & ~GranuleState::forced);
      if constexpr (C::discards) {
        state = GranuleState::with(state, Fidelity::evicted);
        ref.lane->evicted += 1;
      } else {
        state = static_cast<std::uint8_t>(GranuleState::with(state, Fidelity::frozen) |
                                          GranuleState::clean);
      }
      ref.note_change(granule, step);
      release_slot(ref, slot);
      ref.lane->frozen += 1;
      if constexpr (!C::discards) {
        sleep(granule);
      }
    }
    done += batch;
  }
}

/// @brief Brings frozen granules back, bit for bit, into slots at the end of the lane.
///
/// The caller made sure that the budget holds them. Their query sums are not rebuilt here.
/// @throws TierError whatever the tier throws; granules not yet loaded stay frozen
template <class C>
void thaw_granules(Memory<C>& memory, LaneRef<C> const& ref, typename C::Tier& tier,
                   Scratch& scratch, std::uint32_t const* granules, int count, std::uint32_t step) {
  Geometry const& g = *ref.geometry;
  for (int done = 0; done < count;) {
    int const batch = std::min(count - done, transfer_batch);
    if constexpr (!C::in_place) {
      memory.grow_rows(ref, ref.lane->slots + batch);
      for (int i = 0; i < batch; ++i) {
        auto const slot = static_cast<std::uint32_t>(ref.lane->slots + i);
        ::new (scratch.loads() + i)
            LoadRequest{ref.key(granules[done + i]),
                        {reinterpret_cast<std::byte*>(ref.k(slot)), g.part_bytes},
                        {reinterpret_cast<std::byte*>(ref.v(slot)), g.part_bytes}};
      }
      tier.load({scratch.loads(), static_cast<std::size_t>(batch)});
      pay_transfer(ref, static_cast<std::size_t>(batch) * g.granule_bytes(), ref.lane->moved_in);
    }
    for (int i = 0; i < batch; ++i) {
      std::uint32_t const granule = granules[done + i];
      auto& state = ref.state(granule);
      if ((state & GranuleState::forced) != 0) {
        ref.lane->forced -= 1;
      }
      KVFREEZE_ASSERT(GranuleState::fidelity(state) == Fidelity::frozen);  // sleepers wake first
      state = static_cast<std::uint8_t>(GranuleState::with(state, Fidelity::exact) &
                                        ~(GranuleState::forced | GranuleState::carried));
      note_key_norm(ref, acquire_slot(memory, ref, granule, step, 0));
      ref.lane->thawed += 1;
    }
    done += batch;
  }
}

/// @brief Puts a lane whose granules are all exact into position order: then its attention is
/// bit-identical to a plain cache's. O(rows), only after a full thaw.
template <class C>
void restore_order(LaneRef<C> const& ref, Scratch& scratch) noexcept {
  if constexpr (!C::in_place) {
    auto const slots = static_cast<std::uint32_t>(ref.lane->slots);
    Geometry const& g = *ref.geometry;
    std::byte* const held = scratch.loaded();
    auto const copy = [&](std::uint32_t from, std::uint32_t to) {
      std::memcpy(ref.k(to), ref.k(from), g.part_bytes);
      std::memcpy(ref.v(to), ref.v(from), g.part_bytes);
      ref.record(to) = ref.record(from);
      if constexpr (C::needs_queries) {
        std::copy_n(ref.sums(from), g.page, ref.sums(to));
      }
    };
    ref.map_slots(0, slots, scratch.slots());  // granule -> slot
    for (std::uint32_t start = 0; start < slots; ++start) {
      if (ref.record(start).granule == start) {
        continue;
      }
      // Follow the cycle: hold one granule, fill each place with the granule that belongs there.
      std::array<std::uint32_t, block_rows> sums{};
      std::memcpy(held, ref.k(start), g.part_bytes);
      std::memcpy(held + g.part_bytes, ref.v(start), g.part_bytes);
      Slot<C> const record = ref.record(start);
      if constexpr (C::needs_queries) {
        std::copy_n(ref.sums(start), g.page, sums.data());
      }
      std::uint32_t hole = start;
      for (;;) {
        std::uint32_t const from = scratch.slots()[hole];
        if (from == start) {
          break;
        }
        copy(from, hole);
        hole = from;
      }
      std::memcpy(ref.k(hole), held, g.part_bytes);
      std::memcpy(ref.v(hole), held + g.part_bytes, g.part_bytes);
      ref.record(hole) = record;
      if constexpr (C::needs_queries) {
        std::copy_n(sums.data(), g.page, ref.sums(hole));
      }
    }
    ref.lane->ordered = true;
    auto const begin = static_cast<std::uint32_t>(ref.tail_begin());
    for (std::uint32_t granule = begin; granule < slots; ++granule) {
      note_tail(ref, granule, granule);
    }
  }
}

}  // namespace kvfreeze::host
