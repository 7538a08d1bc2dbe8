#pragma once

/// @file
/// @brief Which blocks of granules a bounded memory holds, and which of them may leave. Bookkeeping
/// only: no device, no thread, no copying.

#include <kvfreeze/config.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace kvfreeze::gpu::detail {

/// What becomes of a place.
enum class PlaceState : std::uint8_t {
  free,
  filling,  ///< rows are being appended
  dirty,    ///< complete, nowhere else
  storing,  ///< complete, on its way to the lower tier
  clean,    ///< in the lower tier too
  loading,  ///< on its way from the lower tier
  leaving,  ///< not in use any more, but kernels may still read it
};

/// @brief Places for blocks. Blocks are numbered through all lanes.
///
/// Who leaves is decided by a clock: a hand goes round, and a block that was not needed since the
/// hand's last visit leaves. That is about the least recently needed one, at O(1) a victim.
class BlockCache {
 public:
  static constexpr std::uint32_t nowhere = std::numeric_limits<std::uint32_t>::max();
  static constexpr std::uint32_t below = nowhere - 1;  ///< in the lower tier only

  struct Place {
    std::uint32_t block = 0;
    PlaceState state = PlaceState::free;
    std::uint32_t seen = 0;   ///< its stamp when the hand came last; stamps are positive
    std::uint32_t after = 0;  ///< step that has to pass before it may be stored, or used again
    bool kept = false;        ///< stays, whoever needs it
  };

  BlockCache(std::size_t blocks, std::uint32_t places) : where_(blocks, nowhere), places_(places) {
    free_.reserve(places);
    leaving_.reserve(places);
    for (std::uint32_t place = places; place-- > 0;) {
      free_.push_back(place);
    }
  }

  /// The place where kernels find a block, or `nowhere`.
  [[nodiscard]] std::uint32_t visible(std::size_t block) const noexcept {
    std::uint32_t const at = where_[block];
    return at < below && places_[at].state != PlaceState::loading ? at : nowhere;
  }

  /// Where a block is: a place, `below` or `nowhere`.
  [[nodiscard]] std::uint32_t where(std::size_t block) const noexcept { return where_[block]; }

  [[nodiscard]] Place& place(std::uint32_t place) noexcept { return places_[place]; }

  [[nodiscard]] std::size_t places() const noexcept { return places_.size(); }

  [[nodiscard]] std::size_t free_places() const noexcept { return free_.size(); }

  /// Memory held.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return where_.capacity() * sizeof(std::uint32_t) + places_.capacity() * sizeof(Place) +
           (free_.capacity() + leaving_.capacity()) * sizeof(std::uint32_t);
  }

  [[nodiscard]] std::size_t leaving() const noexcept { return leaving_.size(); }

  /// @brief Gives a block a place. @pre there is a free one, and the block has none
  std::uint32_t take(std::size_t block, PlaceState state) noexcept {
    KVFREEZE_ASSERT(!free_.empty() && where_[block] >= below);
    std::uint32_t const place = free_.back();
    free_.pop_back();
    places_[place] = {.block = static_cast<std::uint32_t>(block), .state = state};
    where_[block] = place;
    return place;
  }

  /// @brief Takes a block's place away: it is `below` or `nowhere` from now on.
  /// @param after the last step whose kernels know the place; 0 if none does
  void leave(std::uint32_t place, std::uint32_t to, std::uint32_t after) noexcept {
    Place& p = places_[place];
    where_[p.block] = to;
    p.state = PlaceState::leaving;
    p.after = after;
    leaving_.push_back(place);
  }

  /// Forgets a block that has no place.
  void forget(std::size_t block) noexcept {
    KVFREEZE_ASSERT(where_[block] >= below);
    where_[block] = nowhere;
  }

  /// Places that nobody can know any more become free.
  /// @param passed all work of steps up to this one is done; `nowhere`: all work
  void release(std::uint32_t passed) noexcept {
    std::size_t kept = 0;
    for (std::uint32_t const place : leaving_) {
      if (places_[place].after <= passed) {
        places_[place].state = PlaceState::free;
        free_.push_back(place);
      } else {
        leaving_[kept++] = place;
      }
    }
    leaving_.resize(kept);
  }

  /// @brief Places that no other block can have now.
  /// @param stamps, passed, from as in victim()
  /// @complexity O(places)
  [[nodiscard]] std::size_t bound_places(std::uint32_t const volatile* stamps, std::uint32_t passed,
                                         std::uint32_t from) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      Place const& p = places_[i];
      bool const holds = p.state == PlaceState::dirty || p.state == PlaceState::storing ||
                         p.state == PlaceState::clean;
      bool const written =
          p.state == PlaceState::filling || (p.state == PlaceState::dirty && p.after > passed);
      count += written || (holds && stamps[i] >= from) ? 1U : 0U;
    }
    return count;
  }

  /// @brief The next block that may leave: clean, or dirty and written.
  /// @param stamps [places]: steps that needed them last
  /// @param passed all work of steps up to this one is done
  /// @param from what was needed in this step or later stays
  /// @param visits how far the hand may go; what it went is taken off
  /// @return a place, or `nowhere`
  [[nodiscard]] std::uint32_t victim(std::uint32_t const volatile* stamps, std::uint32_t passed,
                                     std::uint32_t from, std::size_t& visits) noexcept {
    for (; visits > 0; --visits) {
      std::uint32_t const at = hand_;
      hand_ = at + 1 == places_.size() ? 0 : at + 1;
      Place& p = places_[at];
      bool const may =
          p.state == PlaceState::clean || (p.state == PlaceState::dirty && p.after <= passed);
      std::uint32_t const stamp = stamps[at];
      if (may && !p.kept && stamp < from && p.seen == stamp) {
        visits -= 1;
        return at;
      }
      p.seen = stamp;
    }
    return nowhere;
  }

 private:
  std::vector<std::uint32_t> where_;
  std::vector<Place> places_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> leaving_;
  std::uint32_t hand_ = 0;
};

}  // namespace kvfreeze::gpu::detail
