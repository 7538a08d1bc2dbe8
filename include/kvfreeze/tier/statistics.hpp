#pragma once

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>
#include <kvfreeze/tier/tier_counts.hpp>

#include <atomic>
#include <utility>

namespace kvfreeze {

/// @brief A tier that counts what is asked of it; otherwise the tier itself.
///
/// Lanes may store and load at the same time: nothing is lost. counts() and reset() are for moments
/// when none does.
/// @tparam Tier model of TierPolicy
/// @complexity a few relaxed atomic additions for each call, O(batch) to add up its bytes
template <TierPolicy Tier>
class Statistics {
 public:
  static constexpr TierKind kind = detail::tier_kind<Tier>();
  static constexpr bool lossless = detail::is_lossless<Tier>();

  Statistics() = default;

  explicit Statistics(Tier tier) : tier_(std::move(tier)) {}

  void attach(TierGeometry const& geometry) { detail::attach_tier(tier_, geometry); }

  /// @throws what the tier throws; then it counts as a failed call and moves no granules
  void store(std::span<StoreRequest const> batch) {
    counted(counts_.store, batch, [&] { tier_.store(batch); });
  }

  /// @throws as store()
  void load(std::span<LoadRequest const> batch) {
    counted(counts_.load, batch, [&] { tier_.load(batch); });
  }

  void erase(TierKey first, std::uint32_t count) noexcept {
    tier_.erase(first, count);
    add(counts_.erase_calls, 1);
    add(counts_.erased_granules, count);
  }

  /// @throws what the tier throws
  void fork(std::uint32_t from, std::uint32_t to)
    requires detail::ForksSequences<Tier>
  {
    add(counts_.fork_calls, 1);
    tier_.fork(from, to);
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return tier_.bytes(); }

  [[nodiscard]] std::size_t capacity() const noexcept { return detail::tier_capacity(tier_); }

  [[nodiscard]] TierCounts const& counts() const noexcept { return counts_; }

  void reset() noexcept { counts_ = {}; }

  [[nodiscard]] Tier& tier() noexcept { return tier_; }

  [[nodiscard]] Tier const& tier() const noexcept { return tier_; }

  void validate() const { detail::validate_policy(tier_); }

 private:
  static void add(std::uint64_t& counter, std::uint64_t amount) noexcept {
    std::atomic_ref<std::uint64_t>(counter).fetch_add(amount, std::memory_order_relaxed);
  }

  static void raise(std::uint64_t& counter, std::uint64_t value) noexcept {
    std::atomic_ref<std::uint64_t> const shared(counter);
    std::uint64_t seen = shared.load(std::memory_order_relaxed);
    while (seen < value && !shared.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
  }

  template <class Batch, class Call>
  static void counted(TierCounts::Direction& counts, Batch const& batch, Call const& call) {
    add(counts.calls, 1);
    raise(counts.max_batch, batch.size());
    try {
      call();
    } catch (...) {
      add(counts.failed_calls, 1);
      throw;
    }
    std::uint64_t bytes = 0;
    for (auto const& request : batch) {
      bytes += request.k.size() + request.v.size();
    }
    add(counts.granules, batch.size());
    add(counts.bytes, bytes);
  }

  Tier tier_{};
  TierCounts counts_;
};

static_assert(TierPolicy<Statistics<InPlaceTier>>);

}  // namespace kvfreeze
