#pragma once

#include <kvfreeze/host/virtual_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvfreeze::detail {

/// @brief Who lends the bytes of a slot, and to how many it lends its own: one entry for each slot
/// of each region, in pages that are committed while an entry on them says something.
class SlotShares {
 public:
  struct Entry {
    std::uint32_t lender = 0;     ///< sequence whose slot has the bytes, plus 1; 0: the slot's own
    std::uint32_t borrowers = 0;  ///< of the slot's own bytes
  };

  /// Reserves address space, no memory but 4 bytes for each region.
  void attach(std::size_t regions, std::uint32_t granules, std::size_t page) {
    page_ = page;
    per_page_ = (page - header) / sizeof(Entry);
    region_bytes_ = (granules + per_page_ - 1) / per_page_ * page;
    memory_ = host::VirtualMemory::reserve(regions * region_bytes_);
    used_.assign(regions, 0);
  }

  [[nodiscard]] Entry& at(std::size_t region, std::uint32_t granule) const noexcept {
    return reinterpret_cast<Entry*>(page_of(region, granule) + header)[granule % per_page_];
  }

  /// Does any slot of the region share?
  [[nodiscard]] bool any(std::size_t region) const noexcept { return used_[region] > 0; }

  /// Bytes that the entry's first word will commit.
  [[nodiscard]] std::size_t price(std::size_t region, std::uint32_t granule) const noexcept {
    return count_of(region, granule) == 0 ? page_ : 0;
  }

  /// To be called before an entry says something and when it says nothing any more; the latter
  /// returns the bytes that were given back.
  void open(std::size_t region, std::uint32_t granule) noexcept {
    ++count_of(region, granule);
    ++used_[region];
  }

  std::size_t close(std::size_t region, std::uint32_t granule) noexcept {
    --used_[region];
    if (--count_of(region, granule) != 0) {
      return 0;
    }
    memory_.release(static_cast<std::size_t>(page_of(region, granule) - memory_.data()), page_);
    return page_;
  }

 private:
  static constexpr std::size_t header = 64;  // one cache line: entries of the page in use

  [[nodiscard]] std::byte* page_of(std::size_t region, std::uint32_t granule) const noexcept {
    return memory_.data() + region * region_bytes_ + granule / per_page_ * page_;
  }

  [[nodiscard]] std::uint32_t& count_of(std::size_t region, std::uint32_t granule) const noexcept {
    return *reinterpret_cast<std::uint32_t*>(page_of(region, granule));
  }

  host::VirtualMemory memory_;
  std::vector<std::uint32_t> used_;  // entries of each region that say something
  std::size_t page_ = 0;
  std::size_t per_page_ = 1;
  std::size_t region_bytes_ = 0;
};

}  // namespace kvfreeze::detail
