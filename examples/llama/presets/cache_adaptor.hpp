#pragma once

#include <kvfreeze/kvfreeze.hpp>

#include "../caches.hpp"
#include "../user_error.hpp"
#include "../watch.hpp"

#include <cmath>
#include <concepts>
#include <cstddef>
#include <istream>
#include <limits>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama {

/// @brief Carries the calls of the engine to one kind of cache.
template <class Cache>
class CacheAdaptor final : public AttentionCache {
 public:
  /// @param arguments the cache's own
  template <class... Arguments>
  explicit CacheAdaptor(Arguments&&... arguments)
      : cache_(std::forward<Arguments>(arguments)...), sequence_(cache_.open()) {}

  void attend(int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out, kvfreeze::Part part) override {
    Watch const watch;
    cache_.attend(sequence_, layer, q, k, v, out, part);
    if (part.index == 0) {
      attend_seconds_ += watch.seconds();
    }
  }

  kvfreeze::StepReport advance(std::span<float const> logits) override {
    Watch const watch;
    kvfreeze::StepReport const report = cache_.advance(sequence_, logits);
    advance_seconds_ += watch.seconds();
    return report;
  }

  void truncate(int length) override { cache_.truncate(sequence_, length); }

  void thaw() override { cache_.thaw(sequence_); }

  void restart() override {
    cache_.close(sequence_);
    sequence_ = cache_.open();
    if (!shares_.empty()) {
      set_shares(std::vector<float>(shares_));
    }
  }

  bool set_shares(std::span<float const> shares) override {
    if constexpr (requires { cache_.set_shares(sequence_, shares); }) {
      cache_.set_shares(sequence_, shares);
      shares_.assign(shares.begin(), shares.end());
      return true;
    } else {
      return false;
    }
  }

  bool limit(std::size_t bytes) override {
    if constexpr (requires { cache_.limit(bytes); }) {
      cache_.limit(bytes);
      return true;
    } else {
      return false;
    }
  }

  bool save(std::ostream& out) override {
    if constexpr (requires { cache_.save(sequence_, out); }) {
      cache_.save(sequence_, out);
      return true;
    } else {
      return false;
    }
  }

  bool restore(std::istream& in) override {
    if constexpr (requires { sequence_ = cache_.restore(in); }) {
      cache_.close(sequence_);  // there is room for one
      try {
        sequence_ = cache_.restore(in);
      } catch (...) {
        sequence_ = cache_.open();
        throw;
      }
      return true;
    } else {
      return false;
    }
  }

  [[nodiscard]] bool obeys_cap() const override {
    constexpr bool in_place = std::same_as<typename Cache::tier_type, kvfreeze::InPlaceTier>;
    constexpr bool uniform = requires { Cache::scheduler_type::uniform; };
    return !in_place && !uniform;
  }

  [[nodiscard]] int length() const override { return cache_.length(sequence_); }

  [[nodiscard]] int lanes_per_layer() const override { return cache_.lanes_per_layer(); }

  void fidelities(int layer, int lane, std::span<kvfreeze::Fidelity> out) const override {
    cache_.fidelities(sequence_, layer, lane, out);
  }

  [[nodiscard]] float attention_entropy(int layer, int lane) const override {
    if constexpr (requires { cache_.attention_entropy(sequence_, layer, lane); }) {
      return cache_.attention_entropy(sequence_, layer, lane);
    } else {
      return std::numeric_limits<float>::quiet_NaN();
    }
  }

 private:
  Cache cache_;
  kvfreeze::Sequence sequence_;
  std::vector<float> shares_;  ///< that were given
};

namespace detail {

/// @brief Sets a field of a policy by its name on the command line.
/// @return whether the policy has it
/// @throws UserError if a whole number is wanted and another one given
template <class D>
bool set_field(D& policy, std::string_view name, double value) {
  auto const set = [&]<class T>(T& field) {
    if (std::integral<T> && (value != std::floor(value) || std::fabs(value) > (1 << 24))) {
      throw UserError("--preset: " + std::string(name) + " must be a whole number");
    }
    field = static_cast<T>(value);
    return true;
  };
  // One line for each field that any policy has.
  if constexpr (requires { policy.missed_mass = 0.0F; }) {
    if (name == "missed-mass") return set(policy.missed_mass);
  }
  if constexpr (requires { policy.none = 0.0F; }) {
    if (name == "none" || name == "missed-mass") return set(policy.none);
  }
  if constexpr (requires { policy.first = 0.0F; }) {
    if (name == "first") return set(policy.first);
  }
  if constexpr (requires { policy.second = 0.0F; }) {
    if (name == "second") return set(policy.second);
  }
  if constexpr (requires { policy.third = 0.0F; }) {
    if (name == "third") return set(policy.third);
  }
  if constexpr (requires { policy.stay = 1; }) {
    if (name == "stay") return set(policy.stay);
  }
  if constexpr (requires { policy.every = 1; }) {
    if (name == "every" || name == "period") return set(policy.every);
  }
  if constexpr (requires { policy.period = 1; }) {
    if (name == "period") return set(policy.period);
  }
  if constexpr (requires { policy.period_steps = 1; }) {
    if (name == "period") return set(policy.period_steps);
  }
  if constexpr (requires { policy.fill = 0.0F; }) {
    if (name == "fill") return set(policy.fill);
  }
  if constexpr (requires { policy.hold = 0.0F; }) {
    if (name == "hold") return set(policy.hold);
  }
  if constexpr (requires { policy.softness = 0.0F; }) {
    if (name == "softness") return set(policy.softness);
  }
  if constexpr (requires { policy.dense_rows = 1; }) {
    if (name == "dense-rows") return set(policy.dense_rows);
  }
  if constexpr (requires { policy.dense = true; }) {
    if (name == "dense") return set(policy.dense);
  }
  if constexpr (requires { policy.quantile = 0.0F; }) {
    if (name == "quantile") return set(policy.quantile);
  }
  if constexpr (requires { policy.history = 1; }) {
    if (name == "history") return set(policy.history);
  }
  if constexpr (requires { policy.fraction = 0.0F; }) {
    if (name == "fraction") return set(policy.fraction);
  }
  if constexpr (requires { policy.spared = 1; }) {
    if (name == "spared") return set(policy.spared);
  }
  if constexpr (requires { policy.granules = 1; }) {
    if (name == "granules") return set(policy.granules);
  }
  if constexpr (requires { policy.capacity = 1; }) {
    if (name == "capacity") return set(policy.capacity);
  }
  if constexpr (requires { policy.shrink = 1.0F; }) {
    if (name == "shrink") return set(policy.shrink);
  }
  if constexpr (requires { policy.recalled = 1.0F; }) {
    if (name == "recalled") return set(policy.recalled);
  }
  if constexpr (requires { policy.shares.beta = 1.0F; }) {
    if (name == "beta") return set(policy.shares.beta);
  }
  if constexpr (requires { policy.shares.low = 1.0F; }) {
    if (name == "low") return set(policy.shares.low);
  }
  if constexpr (requires { policy.shares.high = 1.0F; }) {
    if (name == "high") return set(policy.shares.high);
  }
  if constexpr (requires { policy.bits = 1.0F; }) {
    if (name == "bits") return set(policy.bits);
  }
  if constexpr (requires { policy.alpha = 1.0F; }) {
    if (name == "alpha") return set(policy.alpha);
  }
  if constexpr (requires { policy.kept = 1.0F; }) {
    if (name == "kept") return set(policy.kept);
  }
  if constexpr (requires { policy.exact = 1.0F; }) {
    if (name == "exact") return set(policy.exact);
  }
  if constexpr (requires { policy.shares.safeguard = 1.0F; }) {
    if (name == "safeguard") return set(policy.shares.safeguard);
  }
  if constexpr (requires { policy.steps = 1; }) {
    if (name == "steps") return set(policy.steps);
  }
  if constexpr (requires { policy.pooled = 1; }) {
    if (name == "pooled") return set(policy.pooled);
  }
  if constexpr (requires { policy.prompt = 1; }) {
    if (name == "prompt") return set(policy.prompt);
  }
  if constexpr (requires { policy.per_query = true; }) {
    if (name == "per-query") return set(policy.per_query);
  }
  if constexpr (requires { policy.gamma = 1.0F; }) {
    if (name == "gamma") return set(policy.gamma);
  }
  return false;
}

/// @brief Sets a field of the scheduler or, if that has none of this name, of the scorer.
/// @throws UserError that lists what they have, if neither has this field
template <class D, class S>
void turn(D& scheduler, S& scorer, Knob const& knob) {
  if (set_field(scheduler, knob.name, knob.value) || set_field(scorer, knob.name, knob.value)) {
    return;
  }
  std::string known;
  for (std::string_view const name :
       {"missed-mass", "none",     "first",  "second",     "third",     "stay",    "period",
        "hold",        "softness", "dense",  "dense-rows", "quantile",  "history", "fraction",
        "granules",    "capacity", "shrink", "recalled",   "beta",      "low",     "high",
        "steps",       "pooled",   "prompt", "per-query",  "safeguard", "kept",    "bits",
        "alpha",       "exact",    "gamma",  "fill"}) {
    D probe{};
    S other{};
    known +=
        set_field(probe, name, 1.0) || set_field(other, name, 1.0) ? ", " + std::string(name) : "";
  }
  throw UserError("--preset: this preset has no setting '" + knob.name +
                  "'; there are resident, resident-bytes, window, sinks, tier" + known);
}

/// Builds a cache with the scheduler's and scorer's options from the command line, its other
/// policies as they come.
template <class Cache>
struct CacheBuilder;

template <kvfreeze::LayoutPolicy L, kvfreeze::ScorerPolicy S, kvfreeze::SchedulerPolicy D,
          kvfreeze::TierPolicy T, kvfreeze::TriggerPolicy R>
struct CacheBuilder<kvfreeze::KvFreezeCache<L, S, D, T, R>> {
  using Cache = kvfreeze::KvFreezeCache<L, S, D, T, R>;

  static std::unique_ptr<AttentionCache> build(CacheSettings const& settings, S scorer,
                                               D scheduler) {
    for (Knob const& knob : settings.knobs) {
      turn(scheduler, scorer, knob);
    }
    if constexpr (requires { scheduler.third = scheduler.second; }) {
      // Presets without that level need not say that its threshold is not below the one before.
      scheduler.third = std::max(scheduler.third, scheduler.second);
    }
    return std::make_unique<CacheAdaptor<Cache>>(settings.shape, settings.limits, scorer,
                                                 scheduler);
  }
};

}  // namespace detail

/// @brief A cache of the given type behind the engine's interface.
/// @param scorer, scheduler what they are before the settings' knobs
template <class Cache>
std::unique_ptr<AttentionCache> make_cache(CacheSettings const& settings,
                                           typename Cache::scorer_type scorer = {},
                                           typename Cache::scheduler_type scheduler = {}) {
  return detail::CacheBuilder<Cache>::build(settings, scorer, scheduler);
}

}  // namespace llama
