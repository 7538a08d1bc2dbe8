#pragma once

#include <kvfreeze/detail/checksum.hpp>
#include <kvfreeze/detail/describe.hpp>
#include <kvfreeze/detail/lane_slots.hpp>
#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/tier/host_tier.hpp>

#include <cstring>
#include <utility>

namespace kvfreeze {

/// @brief A tier whose loads are verified: a 64-bit checksum for each granule is kept beside it.
///
/// The sum covers the key too, so that granules that were swapped are found out. bytes() includes
/// the memory of the sums, 8 bytes for each granule in pages.
/// @tparam Tier model of TierPolicy that holds copies, without loss
/// @complexity O(bytes) for each store and load, on top of the tier's
template <TierPolicy Tier>
class Checksummed {
  static_assert(detail::tier_kind<Tier>() == TierKind::holding,
                "kvfreeze: Checksummed needs a tier that holds copies");
  static_assert(detail::is_lossless<Tier>(), "kvfreeze: Checksummed needs a lossless tier");

 public:
  static constexpr TierKind kind = TierKind::holding;
  static constexpr bool lossless = true;

  Checksummed() = default;

  explicit Checksummed(Tier tier) : tier_(std::move(tier)) {}

  /// @throws OutOfMemory, or what the tier throws
  void attach(TierGeometry const& geometry) {
    sums_.attach(geometry, sizeof(std::uint64_t));
    detail::attach_tier(tier_, geometry);
  }

  /// @throws TierError for a key outside the geometry, or what the tier throws; nothing changed
  void store(std::span<StoreRequest const> batch) {
    for (StoreRequest const& request : batch) {
      check(request.key);
    }
    tier_.store(batch);
    for (StoreRequest const& request : batch) {
      static_cast<void>(sums_.pay(sums_.claim(request.key), unlimited));
      std::uint64_t const sum = sum_of(request);
      std::memcpy(sums_.fill(request.key), &sum, sizeof sum);
    }
  }

  /// @throws TierError naming the key and both sums if a granule is damaged: then the buffers hold
  /// what the tier gave; or what the tier throws
  void load(std::span<LoadRequest const> batch) {
    for (LoadRequest const& request : batch) {
      check(request.key);
    }
    tier_.load(batch);
    for (LoadRequest const& request : batch) {
      std::byte const* const kept = sums_.find(request.key);
      std::uint64_t expected = 0;
      if (kept == nullptr) {
        throw TierError("kvfreeze: no checksum for granule (" + detail::describe(request.key) +
                        ")");
      }
      std::memcpy(&expected, kept, sizeof expected);
      std::uint64_t const actual = sum_of(request);
      if (actual != expected) {
        throw TierError("kvfreeze: damaged granule (" + detail::describe(request.key) +
                        "): checksum " + detail::describe_hex(actual) + ", stored with " +
                        detail::describe_hex(expected));
      }
    }
  }

  void erase(TierKey first, std::uint32_t count) noexcept {
    tier_.erase(first, count);
    sums_.erase(first, count);
  }

  /// @throws what the tier throws
  void fork(std::uint32_t from, std::uint32_t to)
    requires detail::ForksSequences<Tier>
  {
    tier_.fork(from, to);
    sums_.erase(to);
    sums_.for_each(from, [&](TierKey key) {
      TierKey const copy{to, key.lane, key.granule};
      std::uint64_t sum = 0;
      std::memcpy(&sum, sums_.find(key), sizeof sum);
      sum += detail::mixed(to) - detail::mixed(from);
      static_cast<void>(sums_.pay(sums_.claim(copy), unlimited));
      std::memcpy(sums_.fill(copy), &sum, sizeof sum);
    });
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return tier_.bytes() + sums_.bytes(); }

  [[nodiscard]] std::size_t capacity() const noexcept { return detail::tier_capacity(tier_); }

  [[nodiscard]] Tier& tier() noexcept { return tier_; }

  [[nodiscard]] Tier const& tier() const noexcept { return tier_; }

  void validate() const { detail::validate_policy(tier_); }

 private:
  void check(TierKey key) const {
    if (!sums_.contains(key)) {
      throw TierError("kvfreeze: key (" + detail::describe(key) +
                      ") is outside the geometry; was attach() called?");
    }
  }

  template <class Request>
  static std::uint64_t sum_of(Request const& request) noexcept {
    TierKey const key = request.key;
    std::uint64_t const place = (std::uint64_t{key.lane} << 32) | key.granule;
    // The sequence's part is apart: a fork's sums follow from its parent's.
    return detail::checksum(request.v, detail::checksum(request.k, detail::mixed(place))) +
           detail::mixed(key.sequence);
  }

  Tier tier_{};
  detail::LaneSlots sums_;
};

static_assert(TierPolicy<Checksummed<HostTier>>);

}  // namespace kvfreeze
