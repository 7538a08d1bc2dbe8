#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/host/virtual_memory.hpp>
#include <kvfreeze/tier/request.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace kvfreeze::detail {

/// @brief One slot of fixed size for every granule that there can be, in memory that is committed
/// page by page as slots are used; it knows exactly how many bytes that is.
///
/// Each (sequence, lane) owns a region of whole pages: the slots, then pages of slot states, each
/// page with a count of its used slots in front. A page is committed while a slot on it is used
/// and given back with the last one. Regions share nothing but one counter, so different lanes may
/// be worked on at the same time; calls for one lane may not overlap.
///
/// Writing a batch takes two rounds, so that it can fail as a whole: `claim()` each key, `pay()`
/// for the sum, then `fill()` each or `unclaim()` each. Nothing allocates after `attach()`.
class LaneSlots {
 public:
  /// @brief Forgets everything and lays the regions out. Reserves address space, no memory.
  /// @throws OutOfMemory if the address space does not hold sequences * lanes * granules slots
  void attach(TierGeometry const& geometry, std::size_t slot_bytes) {
    std::size_t const page = host::VirtualMemory::page_bytes();
    std::size_t const slots_at = rounded(product(geometry.granules, slot_bytes), page);
    std::size_t const per_page = page - state_header;
    std::size_t const state_pages = (geometry.granules + per_page - 1) / per_page;
    std::size_t const region = slots_at + state_pages * page;
    std::size_t const regions = product(geometry.sequences, geometry.lanes);
    memory_ = host::VirtualMemory::reserve(product(regions, region));
    geometry_ = geometry;
    slot_bytes_ = slot_bytes;
    states_at_ = slots_at;
    region_bytes_ = region;
    page_ = page;
    committed_ = 0;
  }

  /// Is it a key of the geometry? The functions below ask for one. After a move there is none.
  [[nodiscard]] bool contains(TierKey key) const noexcept {
    return memory_.data() != nullptr && key.sequence < geometry_.sequences &&
           key.lane < geometry_.lanes && key.granule < geometry_.granules;
  }

  /// The filled slot, or null.
  [[nodiscard]] std::byte const* find(TierKey key) const noexcept {
    std::byte const* const region = region_of(key);
    return *state_of(region, key.granule) == filled ? slot_of(region, key.granule) : nullptr;
  }

  /// Marks a slot for filling. Returns the bytes that will be committed for it, 0 if it is used.
  [[nodiscard]] std::size_t claim(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    if (*state_of(region, key.granule) != unused) {
      return 0;
    }
    std::size_t pages = used_on_state_page(region, key.granule) == 0 ? 1 : 0;
    for (std::size_t p = first_page(key.granule); p <= last_page(key.granule); ++p) {
      pages += page_in_use(region, p) ? 0 : 1;
    }
    *state_of(region, key.granule) = claimed;
    ++used_on_state_page(region, key.granule);
    return pages * page_;
  }

  /// Takes a claim back; a filled slot is left alone.
  void unclaim(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    if (*state_of(region, key.granule) == claimed) {
      drop_state(region, key.granule);
    }
  }

  /// Adds claimed bytes to bytes() unless that would exceed `capacity`.
  [[nodiscard]] bool pay(std::size_t bytes, std::size_t capacity) noexcept {
    std::atomic_ref<std::size_t> const committed(committed_);
    std::size_t held = committed.load(std::memory_order_relaxed);
    do {
      if (held > capacity || bytes > capacity - held) {
        return bytes == 0;
      }
    } while (!committed.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
    return true;
  }

  /// The slot of a claimed or filled key, to be written now.
  [[nodiscard]] std::byte* fill(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    *state_of(region, key.granule) = filled;
    return region + key.granule * slot_bytes_;
  }

  /// Empties slots and gives back every page that lost its last one. Ignores what is out of range.
  /// @complexity O(count), and one system call for the run of pages
  void erase(TierKey first, std::uint32_t count) noexcept {
    if (!contains(first) || count == 0) {
      return;
    }
    std::byte* const region = region_of(first);
    std::uint32_t const end = first.granule + std::min(count, geometry_.granules - first.granule);
    std::size_t begin_page = first_page(first.granule);
    std::size_t end_page = last_page(end - 1) + 1;
    std::size_t pages = 0;
    for (std::size_t p = begin_page; p < end_page; ++p) {
      pages += page_in_use(region, p) ? 1 : 0;
    }
    if (pages == 0) {
      return;
    }
    for (std::uint32_t granule = first.granule; granule < end; ++granule) {
      if (*state_of(region, granule) != unused) {
        pages += drop_state(region, granule) ? 1 : 0;
      }
    }
    // Only the pages at both ends can have slots outside the range.
    if (page_in_use(region, begin_page)) {
      ++begin_page;
      --pages;
    }
    if (begin_page < end_page && page_in_use(region, end_page - 1)) {
      --end_page;
      --pages;
    }
    auto const offset = static_cast<std::size_t>(region - memory_.data());
    memory_.release(offset + begin_page * page_, (end_page - begin_page) * page_);
    std::atomic_ref<std::size_t>(committed_).fetch_sub(pages * page_, std::memory_order_relaxed);
  }

  /// Bytes of committed pages. Not while another thread writes or erases.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return memory_.data() != nullptr ? committed_ : 0;
  }

  [[nodiscard]] TierGeometry const& geometry() const noexcept { return geometry_; }

 private:
  static constexpr std::byte unused{0};  // what fresh and released pages say
  static constexpr std::byte claimed{1};
  static constexpr std::byte filled{2};
  static constexpr std::size_t state_header = 64;  // one cache line: the count of used slots

  static std::size_t product(std::size_t a, std::size_t b) {
    if (b != 0 && a > (std::numeric_limits<std::size_t>::max() >> 1) / b) {
      throw OutOfMemory("kvfreeze: a tier of " + std::to_string(a) + " * " + std::to_string(b) +
                            " bytes exceeds the address space",
                        std::numeric_limits<std::size_t>::max());
    }
    return a * b;
  }

  static std::size_t rounded(std::size_t bytes, std::size_t unit) noexcept {
    return (bytes + unit - 1) / unit * unit;
  }

  [[nodiscard]] std::byte* region_of(TierKey key) const noexcept {
    KVFREEZE_ASSERT(contains(key));
    std::size_t const index = std::size_t{key.sequence} * geometry_.lanes + key.lane;
    return memory_.data() + index * region_bytes_;
  }

  [[nodiscard]] std::byte const* slot_of(std::byte const* region,
                                         std::uint32_t granule) const noexcept {
    return region + granule * slot_bytes_;
  }

  template <class Byte>
  [[nodiscard]] Byte* state_page(Byte* region, std::uint32_t granule) const noexcept {
    return region + states_at_ + granule / (page_ - state_header) * page_;
  }

  template <class Byte>
  [[nodiscard]] Byte* state_of(Byte* region, std::uint32_t granule) const noexcept {
    return state_page(region, granule) + state_header + granule % (page_ - state_header);
  }

  [[nodiscard]] std::uint32_t& used_on_state_page(std::byte* region,
                                                  std::uint32_t granule) const noexcept {
    return *reinterpret_cast<std::uint32_t*>(state_page(region, granule));
  }

  /// Returns true if the state page was given back with it.
  bool drop_state(std::byte* region, std::uint32_t granule) noexcept {
    *state_of(region, granule) = unused;
    if (--used_on_state_page(region, granule) != 0) {
      return false;
    }
    memory_.release(static_cast<std::size_t>(state_page(region, granule) - memory_.data()), page_);
    return true;
  }

  [[nodiscard]] std::size_t first_page(std::uint32_t granule) const noexcept {
    return granule * slot_bytes_ / page_;
  }

  [[nodiscard]] std::size_t last_page(std::uint32_t granule) const noexcept {
    return ((granule + std::size_t{1}) * slot_bytes_ - 1) / page_;
  }

  [[nodiscard]] bool page_in_use(std::byte const* region, std::size_t page) const noexcept {
    auto const first = static_cast<std::uint32_t>(page * page_ / slot_bytes_);
    auto const last = static_cast<std::uint32_t>(
        std::min<std::size_t>(((page + 1) * page_ - 1) / slot_bytes_, geometry_.granules - 1));
    for (std::uint32_t granule = first; granule <= last; ++granule) {
      if (*state_of(region, granule) != unused) {
        return true;
      }
    }
    return false;
  }

  host::VirtualMemory memory_;
  TierGeometry geometry_{};
  std::size_t slot_bytes_ = 0;
  std::size_t states_at_ = 0;  // within a region
  std::size_t region_bytes_ = 0;
  std::size_t page_ = 0;
  std::size_t committed_ = 0;
};

}  // namespace kvfreeze::detail
