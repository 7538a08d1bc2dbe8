#pragma once

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/tier/fault_plan.hpp>
#include <kvfreeze/tier/in_place_tier.hpp>

#include <atomic>
#include <string>
#include <utility>

namespace kvfreeze {

/// @brief A tier that fails on purpose, before it asks the tier within: for tests of the way back.
/// @tparam Tier model of TierPolicy
/// @complexity O(1) on top of the tier's
template <TierPolicy Tier>
class FaultInjecting {
 public:
  static constexpr TierKind kind = detail::tier_kind<Tier>();
  static constexpr bool lossless = detail::is_lossless<Tier>();

  FaultInjecting() = default;

  explicit FaultInjecting(Tier tier) : tier_(std::move(tier)) {}

  FaultInjecting(Tier tier, FaultPlan const& plan) : tier_(std::move(tier)), plan_(plan) {}

  /// Fails at the n-th call of store, load or fork, whichever it is.
  explicit FaultInjecting(std::uint64_t n) : plan_{.call = n} {}

  /// New plan; counts from 0 again.
  void arm(FaultPlan const& plan) noexcept {
    plan_ = plan;
    calls_ = 0;
  }

  void disarm() noexcept { arm({}); }

  /// Calls counted by the plan so far, failed ones included.
  [[nodiscard]] std::uint64_t calls() const noexcept { return calls_; }

  void attach(TierGeometry const& geometry) { detail::attach_tier(tier_, geometry); }

  /// @throws TierError as planned, nothing having changed; or what the tier throws
  void store(std::span<StoreRequest const> batch) {
    if (plan_.in_store) {
      count("store");
    }
    tier_.store(batch);
  }

  /// @throws TierError as planned, no buffer having been touched; or what the tier throws
  void load(std::span<LoadRequest const> batch) {
    if (plan_.in_load) {
      count("load");
    }
    tier_.load(batch);
  }

  void erase(TierKey first, std::uint32_t count) noexcept { tier_.erase(first, count); }

  /// @throws TierError as planned, nothing having changed; or what the tier throws
  void fork(std::uint32_t from, std::uint32_t to)
    requires detail::ForksSequences<Tier>
  {
    if (plan_.in_fork) {
      count("fork");
    }
    tier_.fork(from, to);
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return tier_.bytes(); }

  [[nodiscard]] std::size_t capacity() const noexcept { return detail::tier_capacity(tier_); }

  [[nodiscard]] Tier& tier() noexcept { return tier_; }

  [[nodiscard]] Tier const& tier() const noexcept { return tier_; }

  void validate() const { detail::validate_policy(tier_); }

 private:
  void count(char const* what) {
    std::uint64_t const call =
        std::atomic_ref<std::uint64_t>(calls_).fetch_add(1, std::memory_order_relaxed) + 1;
    if (plan_.call != 0 && (call == plan_.call || (plan_.persistent && call > plan_.call))) {
      throw TierError("kvfreeze: injected fault in " + std::string(what) + ", call " +
                      std::to_string(call));
    }
  }

  Tier tier_{};
  FaultPlan plan_{};
  std::uint64_t calls_ = 0;
};

static_assert(TierPolicy<FaultInjecting<InPlaceTier>>);

}  // namespace kvfreeze
