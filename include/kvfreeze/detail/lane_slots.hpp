#pragma once

#include <kvfreeze/config.hpp>
#include <kvfreeze/detail/slot_shares.hpp>
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
/// Writing a batch takes two rounds, so that it can fail as a whole: `own()` and `claim()` each
/// key, `pay()` for the sum, then `fill()` each or `unclaim()` each. Nothing allocates after
/// `attach()`.
///
/// `fork()` lets the slots of one sequence stand for those of another, without a copy. Then a
/// slot's bytes are in its own place or borrowed from the same slot of another sequence, where they
/// stay while someone borrows them, erased or not. A slot that borrows has nothing in its own
/// place. Calls for lanes of one number may not overlap then, whatever their sequences.
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
    shares_.attach(regions, geometry.granules, page);
  }

  /// Is it a key of the geometry? The functions below ask for one. After a move there is none.
  [[nodiscard]] bool contains(TierKey key) const noexcept {
    return memory_.data() != nullptr && key.sequence < geometry_.sequences &&
           key.lane < geometry_.lanes && key.granule < geometry_.granules;
  }

  /// The filled slot, wherever its bytes are, or null.
  [[nodiscard]] std::byte const* find(TierKey key) const noexcept {
    std::byte const* const region = region_of(key);
    std::byte const state = *state_of(region, key.granule);
    if (state == filled) {
      return slot_of(region, key.granule);
    }
    if (has(state, borrowed)) {
      return slot_of(region_of(lender_of(key)), key.granule);
    }
    return has(state, filled) ? slot_of(region, key.granule) : nullptr;
  }

  /// Do others borrow what is in the slot's own place?
  [[nodiscard]] bool lends(TierKey key) const noexcept {
    return has(*state_of(region_of(key), key.granule), lent);
  }

  /// @brief Makes sure that what is written to the slot's own place is nobody else's: borrowers get
  /// a copy of what is there, one of them in its own place, which the others borrow from then on.
  /// Nothing that find() gives changes.
  /// @return false if `capacity` does not hold the copy
  [[nodiscard]] bool own(TierKey key, std::size_t capacity) noexcept {
    std::byte* const region = region_of(key);
    if (!lends(key)) {
      return true;
    }
    std::size_t const index = index_of(key);
    SlotShares::Entry& entry = shares_.at(index, key.granule);
    TierKey heir = next_borrower(key, 0);
    std::byte* const place = region_of(heir);
    if (!pay(slot_price(place, key.granule), capacity)) {
      return false;
    }
    std::byte& state = *state_of(place, key.granule);
    state = filled;
    std::byte const* const from = slot_of(region, key.granule);
    std::copy_n(from, slot_bytes_, place + key.granule * slot_bytes_);
    SlotShares::Entry& own_entry = shares_.at(index_of(heir), key.granule);
    own_entry = {0, entry.borrowers - 1};
    for (TierKey other = heir; entry.borrowers > 1; --entry.borrowers) {
      state = filled | lent;
      other = next_borrower(key, other.sequence + 1);
      shares_.at(index_of(other), key.granule).lender = heir.sequence + 1;
    }
    if (own_entry.borrowers == 0) {
      give_back(shares_.close(index_of(heir), key.granule));
    }
    entry.borrowers = 0;
    settle(key);
    return true;
  }

  /// @brief Lets the slots of sequence `to`, all of which are forgotten first, stand for the same
  /// bytes as those of sequence `from`.
  /// @return false if `capacity` does not hold what has to be noted; then `to` is empty
  /// @complexity O(lanes * granules used); bytes are copied only where `to` still lends its own
  [[nodiscard]] bool fork(std::uint32_t from, std::uint32_t to, std::size_t capacity) noexcept {
    bool held = true;
    erase(to);
    for_each(from, [&](TierKey key) { held = held && lend(key, to, capacity); });
    if (!held) {
      erase(to);
    }
    return held;
  }

  /// @brief Calls f(key) for each filled slot of a sequence, wherever its bytes are.
  /// @param f may erase the slot
  template <class F>
  void for_each(std::uint32_t sequence, F&& f) const {
    for (std::uint32_t lane = 0; lane < geometry_.lanes; ++lane) {
      std::byte const* const region = region_of({sequence, lane, 0});
      for (std::uint32_t granule = 0; granule < geometry_.granules;) {
        if (used_on_state_page(region, granule) == 0) {
          granule += states_on_page() - granule % states_on_page();
          continue;
        }
        if (visible(*state_of(region, granule))) {
          f(TierKey{sequence, lane, granule});
        }
        ++granule;
      }
    }
  }

  /// Marks a slot for filling; own() has to be called before. Returns the bytes that will be
  /// committed for it, 0 if its place is used.
  [[nodiscard]] std::size_t claim(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    std::byte& state = *state_of(region, key.granule);
    if (has(state, occupies)) {
      return 0;
    }
    std::size_t const price = slot_price(region, key.granule) + state_price(region, key.granule);
    used_on_state_page(region, key.granule) += state == unused ? 1U : 0U;
    state |= claimed;
    return price;
  }

  /// Takes a claim back; a filled slot is left alone.
  void unclaim(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    std::byte& state = *state_of(region, key.granule);
    if (state == claimed) {
      drop_state(region, key.granule);
    } else {
      state &= ~claimed;
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
    if (has(*state_of(region, key.granule), borrowed)) {
      return_borrowed(key);
    }
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
    if (shares_.any(index_of(first))) {
      for (; first.granule < end; ++first.granule) {
        erase_shared(first);
      }
      return;
    }
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
    give_back(pages * page_);
  }

  /// Empties all slots of a sequence.
  void erase(std::uint32_t sequence) noexcept {
    for (std::uint32_t lane = 0; lane < geometry_.lanes; ++lane) {
      std::byte const* const region = region_of({sequence, lane, 0});
      for (std::uint32_t first = 0; first < geometry_.granules; first += states_on_page()) {
        if (used_on_state_page(region, first) > 0) {
          erase({sequence, lane, first}, states_on_page());
        }
      }
    }
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
  static constexpr std::byte kept{4};      // erased, but others borrow the bytes
  static constexpr std::byte borrowed{8};  // the bytes are in another sequence's place
  static constexpr std::byte lent{16};     // with filled or kept
  static constexpr std::byte occupies = claimed | filled | kept;
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

  static constexpr bool has(std::byte state, std::byte flags) noexcept {
    return (state & flags) != unused;
  }

  static constexpr bool visible(std::byte state) noexcept { return has(state, filled | borrowed); }

  [[nodiscard]] std::size_t index_of(TierKey key) const noexcept {
    return std::size_t{key.sequence} * geometry_.lanes + key.lane;
  }

  [[nodiscard]] std::byte* region_of(TierKey key) const noexcept {
    KVFREEZE_ASSERT(contains(key));
    return memory_.data() + index_of(key) * region_bytes_;
  }

  [[nodiscard]] std::uint32_t states_on_page() const noexcept {
    return static_cast<std::uint32_t>(page_ - state_header);
  }

  /// The slot that a borrowed one's bytes are in.
  [[nodiscard]] TierKey lender_of(TierKey key) const noexcept {
    return {shares_.at(index_of(key), key.granule).lender - 1, key.lane, key.granule};
  }

  /// The first sequence from `sequence` on that borrows the slot's bytes; there is one.
  [[nodiscard]] TierKey next_borrower(TierKey key, std::uint32_t sequence) const noexcept {
    TierKey other{sequence, key.lane, key.granule};
    while (!has(*state_of(region_of(other), key.granule), borrowed) ||
           lender_of(other).sequence != key.sequence) {
      ++other.sequence;
    }
    return other;
  }

  /// Bytes that a slot's own place will commit.
  [[nodiscard]] std::size_t slot_price(std::byte const* region,
                                       std::uint32_t granule) const noexcept {
    std::size_t pages = 0;
    for (std::size_t p = first_page(granule); p <= last_page(granule); ++p) {
      pages += page_in_use(region, p) ? 0 : 1;
    }
    return pages * page_;
  }

  /// Bytes that a slot's state will commit.
  [[nodiscard]] std::size_t state_price(std::byte const* region,
                                        std::uint32_t granule) const noexcept {
    return used_on_state_page(region, granule) == 0 ? page_ : 0;
  }

  void give_back(std::size_t bytes) noexcept {
    std::atomic_ref<std::size_t>(committed_).fetch_sub(bytes, std::memory_order_relaxed);
  }

  /// Lets a slot of sequence `to` that is not visible stand for the bytes of `key`, which is.
  [[nodiscard]] bool lend(TierKey key, std::uint32_t to, std::size_t capacity) noexcept {
    TierKey const lender =
        has(*state_of(region_of(key), key.granule), borrowed) ? lender_of(key) : key;
    TierKey const borrower{to, key.lane, key.granule};
    std::byte* const region = region_of(borrower);
    if (lender.sequence == to) {  // it lends them since before it was erased
      *state_of(region, key.granule) = filled | lent;
      return true;
    }
    if (!own(borrower, capacity)) {
      return false;
    }
    std::size_t const lends = index_of(lender);
    std::size_t const borrows = index_of(borrower);
    SlotShares::Entry& entry = shares_.at(lends, key.granule);
    std::size_t const price = state_price(region, key.granule) +
                              shares_.price(borrows, key.granule) +
                              (entry.borrowers == 0 ? shares_.price(lends, key.granule) : 0);
    if (!pay(price, capacity)) {
      return false;
    }
    ++used_on_state_page(region, key.granule);
    *state_of(region, key.granule) = borrowed;
    shares_.open(borrows, key.granule);
    shares_.at(borrows, key.granule) = {lender.sequence + 1, 0};
    if (entry.borrowers++ == 0) {
      shares_.open(lends, key.granule);
      *state_of(region_of(lender), key.granule) |= lent;
    }
    return true;
  }

  /// Ends a loan; the borrower's state is the caller's to change.
  void return_borrowed(TierKey key) noexcept {
    TierKey const lender = lender_of(key);
    shares_.at(index_of(key), key.granule) = {};
    give_back(shares_.close(index_of(key), key.granule));
    if (--shares_.at(index_of(lender), key.granule).borrowers == 0) {
      settle(lender);
    }
  }

  /// Nobody borrows the slot any more.
  void settle(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    give_back(shares_.close(index_of(key), key.granule));
    *state_of(region, key.granule) &= ~lent;
    if (*state_of(region, key.granule) == kept) {
      vacate(key);
    }
  }

  /// Gives a slot's place and state back.
  void vacate(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    std::size_t bytes = drop_state(region, key.granule) ? page_ : 0;
    for (std::size_t p = first_page(key.granule); p <= last_page(key.granule); ++p) {
      if (!page_in_use(region, p)) {
        memory_.release(static_cast<std::size_t>(region - memory_.data()) + p * page_, page_);
        bytes += page_;
      }
    }
    give_back(bytes);
  }

  /// erase() of one slot of a region that shares.
  void erase_shared(TierKey key) noexcept {
    std::byte* const region = region_of(key);
    std::byte& state = *state_of(region, key.granule);
    if (has(state, borrowed)) {
      return_borrowed(key);
      if (drop_state(region, key.granule)) {
        give_back(page_);
      }
    } else if (has(state, lent)) {
      state = kept | lent;
    } else if (state != unused) {
      vacate(key);
    }
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

  [[nodiscard]] std::uint32_t used_on_state_page(std::byte const* region,
                                                 std::uint32_t granule) const noexcept {
    return *reinterpret_cast<std::uint32_t const*>(state_page(region, granule));
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
      if (has(*state_of(region, granule), occupies)) {
        return true;
      }
    }
    return false;
  }

  host::VirtualMemory memory_;
  SlotShares shares_;
  TierGeometry geometry_{};
  std::size_t slot_bytes_ = 0;
  std::size_t states_at_ = 0;  // within a region
  std::size_t region_bytes_ = 0;
  std::size_t page_ = 0;
  std::size_t committed_ = 0;
};

}  // namespace kvfreeze::detail
