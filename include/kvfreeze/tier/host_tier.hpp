#pragma once

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/detail/describe.hpp>
#include <kvfreeze/detail/lane_slots.hpp>
#include <kvfreeze/detail/prefetch.hpp>
#include <kvfreeze/error.hpp>

#include <cstring>

namespace kvfreeze {

/// @brief Exact rows in the process's own memory.
///
/// attach() reserves address space for every granule of the geometry; memory is committed page by
/// page as granules are stored, and given back when the last granule of a page is erased. Nothing
/// allocates afterwards. bytes() is exact: pages of rows, and one page of bookkeeping for each some
/// 4,000 granules of a lane in use.
///
/// @complexity store and load O(bytes), without locks; erase O(granules erased), at most two system
/// calls where pages become free
class HostTier {
 public:
  static constexpr TierKind kind = TierKind::holding;
  static constexpr bool lossless = true;

  /// @param capacity_bytes a store that would make bytes() exceed it fails
  explicit HostTier(std::size_t capacity_bytes = unlimited) noexcept : capacity_(capacity_bytes) {}

  /// @brief Forgets everything it held and gets ready for the geometry's keys.
  /// @throws InvalidArgument if part_bytes is 0
  /// @throws OutOfMemory if the address space does not hold the geometry
  void attach(TierGeometry const& geometry) {
    if (geometry.part_bytes == 0) {
      throw InvalidArgument("kvfreeze: TierGeometry::part_bytes is 0");
    }
    slots_.attach(geometry, 2 * geometry.part_bytes);
  }

  /// @throws TierError naming the key for a key or size outside the geometry, or naming the bytes
  /// if the capacity does not hold the batch; then nothing changed
  void store(std::span<StoreRequest const> batch) {
    for (StoreRequest const& request : batch) {
      check(request.key, request.k.size(), request.v.size());
    }
    for (std::size_t i = 0; i < batch.size();) {
      if (!slots_.lends(batch[i].key)) {
        ++i;
        continue;
      }
      if (!slots_.own(batch[i].key, capacity_)) {
        throw full(slots_.geometry().part_bytes * 2);
      }
      i = 0;  // whoever lends the copy now may be of the batch too
    }
    std::size_t needed = 0;
    for (StoreRequest const& request : batch) {
      needed += slots_.claim(request.key);
    }
    if (!slots_.pay(needed, capacity_)) {
      for (StoreRequest const& request : batch) {
        slots_.unclaim(request.key);
      }
      throw full(needed);
    }
    for (StoreRequest const& request : batch) {
      std::byte* const slot = slots_.fill(request.key);
      std::memcpy(slot, request.k.data(), request.k.size());
      std::memcpy(slot + request.k.size(), request.v.data(), request.v.size());
    }
  }

  /// @throws TierError naming the key for one that is not stored or outside the geometry, or for a
  /// wrong size; then no buffer was touched
  void load(std::span<LoadRequest const> batch) {
    for (LoadRequest const& request : batch) {
      check(request.key, request.k.size(), request.v.size());
      std::byte const* const slot = slots_.find(request.key);
      if (slot != nullptr) {  // rows lie far apart: all of the batch are under way at once
        for (std::size_t i = 0; i < 2 * request.k.size(); i += 64) {
          detail::prefetch(slot + i);
        }
      } else {
        throw TierError("kvfreeze: load of a granule that is not stored (" +
                        detail::describe(request.key) + ")");
      }
    }
    for (LoadRequest const& request : batch) {
      std::byte const* const slot = slots_.find(request.key);
      std::memcpy(request.k.data(), slot, request.k.size());
      std::memcpy(request.v.data(), slot + request.k.size(), request.v.size());
    }
  }

  /// Granules outside the geometry, or not stored, are ignored.
  void erase(TierKey first, std::uint32_t count) noexcept { slots_.erase(first, count); }

  /// @brief Sequence `to` holds what sequence `from` holds, from now on each its own. Blocks are
  /// shared until one of them stores anew, and counted once.
  /// @throws TierError for a sequence outside the geometry, or naming the bytes if the capacity
  /// does not hold the notes on who shares what, 8 bytes for each granule in pages; `to` is empty
  /// then
  /// @complexity O(granules of `from`), no bytes copied
  void fork(std::uint32_t from, std::uint32_t to) {
    TierGeometry const& geometry = slots_.geometry();
    for (std::uint32_t const sequence : {from, to}) {
      if (!slots_.contains({sequence, 0, 0}) || from == to) {
        throw TierError("kvfreeze: fork of sequence " + std::to_string(from) + " to " +
                        std::to_string(to) + " where the tier has " +
                        std::to_string(geometry.sequences));
      }
    }
    if (!slots_.fork(from, to, capacity_)) {
      throw full(host::VirtualMemory::page_bytes());
    }
  }

  /// Memory committed, blocks that sequences share once. Not while another thread stores or erases.
  [[nodiscard]] std::size_t bytes() const noexcept { return slots_.bytes(); }

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

 private:
  [[nodiscard]] TierError full(std::size_t more) const {
    return TierError{"kvfreeze: host tier full: " + std::to_string(more) + " bytes more than the " +
                     std::to_string(slots_.bytes()) + " held exceed its capacity of " +
                     std::to_string(capacity_)};
  }

  void check(TierKey key, std::size_t k_bytes, std::size_t v_bytes) const {
    TierGeometry const& geometry = slots_.geometry();
    if (!slots_.contains(key)) {
      throw TierError("kvfreeze: key (" + detail::describe(key) + ") is outside the tier's " +
                      std::to_string(geometry.sequences) + " sequences, " +
                      std::to_string(geometry.lanes) + " lanes, " +
                      std::to_string(geometry.granules) + " granules; was attach() called?");
    }
    if (k_bytes != geometry.part_bytes || v_bytes != geometry.part_bytes) {
      throw TierError("kvfreeze: K of " + std::to_string(k_bytes) + " and V of " +
                      std::to_string(v_bytes) + " bytes (" + detail::describe(key) +
                      ") where the geometry has " + std::to_string(geometry.part_bytes));
    }
  }

  std::size_t capacity_;
  detail::LaneSlots slots_;
};

static_assert(TierPolicy<HostTier>);

}  // namespace kvfreeze
