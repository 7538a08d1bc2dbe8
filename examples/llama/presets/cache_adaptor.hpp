#pragma once

#include <kvfreeze/kvfreeze.hpp>

#include "../caches.hpp"
#include "../user_error.hpp"
#include "../watch.hpp"

#include <cmath>
#include <concepts>
#include <cstddef>
#include <istream>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>

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

 private:
  Cache cache_;
  kvfreeze::Sequence sequence_;
};

namespace detail {

/// @brief Sets a field of a scheduler by its name on the command line.
/// @return whether the scheduler has it
/// @throws UserError if a whole number is wanted and another one given
template <class D>
bool set_field(D& scheduler, std::string_view name, double value) {
  auto const set = [&]<class T>(T& field) {
    if (std::integral<T> && (value != std::floor(value) || std::fabs(value) > (1 << 24))) {
      throw UserError("--preset: " + std::string(name) + " must be a whole number");
    }
    field = static_cast<T>(value);
    return true;
  };
  // One line for each field that any scheduler has.
  if constexpr (requires { scheduler.missed_mass = 0.0F; }) {
    if (name == "missed-mass") return set(scheduler.missed_mass);
  }
  if constexpr (requires { scheduler.none = 0.0F; }) {
    if (name == "none" || name == "missed-mass") return set(scheduler.none);
  }
  if constexpr (requires { scheduler.first = 0.0F; }) {
    if (name == "first") return set(scheduler.first);
  }
  if constexpr (requires { scheduler.second = 0.0F; }) {
    if (name == "second") return set(scheduler.second);
  }
  if constexpr (requires { scheduler.third = 0.0F; }) {
    if (name == "third") return set(scheduler.third);
  }
  if constexpr (requires { scheduler.stay = 1; }) {
    if (name == "stay") return set(scheduler.stay);
  }
  if constexpr (requires { scheduler.every = 1; }) {
    if (name == "every" || name == "period") return set(scheduler.every);
  }
  if constexpr (requires { scheduler.period = 1; }) {
    if (name == "period") return set(scheduler.period);
  }
  if constexpr (requires { scheduler.period_steps = 1; }) {
    if (name == "period") return set(scheduler.period_steps);
  }
  if constexpr (requires { scheduler.hold = 0.0F; }) {
    if (name == "hold") return set(scheduler.hold);
  }
  if constexpr (requires { scheduler.softness = 0.0F; }) {
    if (name == "softness") return set(scheduler.softness);
  }
  if constexpr (requires { scheduler.dense_rows = 1; }) {
    if (name == "dense-rows") return set(scheduler.dense_rows);
  }
  if constexpr (requires { scheduler.dense = true; }) {
    if (name == "dense") return set(scheduler.dense);
  }
  if constexpr (requires { scheduler.quantile = 0.0F; }) {
    if (name == "quantile") return set(scheduler.quantile);
  }
  if constexpr (requires { scheduler.history = 1; }) {
    if (name == "history") return set(scheduler.history);
  }
  return false;
}

/// @throws UserError that lists what the scheduler has, if it lacks this field
template <class D>
void turn(D& scheduler, Knob const& knob) {
  if (set_field(scheduler, knob.name, knob.value)) {
    return;
  }
  std::string known;
  for (std::string_view const name :
       {"missed-mass", "none", "first", "second", "third", "stay", "period", "hold", "softness",
        "dense-rows", "dense", "quantile", "history"}) {
    D probe{};
    known += set_field(probe, name, 1.0) ? ", " + std::string(name) : "";
  }
  throw UserError("--preset: this preset has no setting '" + knob.name +
                  "'; there are resident, resident-bytes, window, sinks, tier" + known);
}

/// Builds a cache with the scheduler's options from the command line, its other policies as they
/// come.
template <class Cache>
struct CacheBuilder;

template <kvfreeze::LayoutPolicy L, kvfreeze::ScorerPolicy S, kvfreeze::SchedulerPolicy D,
          kvfreeze::TierPolicy T, kvfreeze::TriggerPolicy R>
struct CacheBuilder<kvfreeze::KvFreezeCache<L, S, D, T, R>> {
  using Cache = kvfreeze::KvFreezeCache<L, S, D, T, R>;

  static std::unique_ptr<AttentionCache> build(CacheSettings const& settings) {
    D scheduler{};
    for (Knob const& knob : settings.knobs) {
      turn(scheduler, knob);
    }
    if constexpr (requires { scheduler.third = scheduler.second; }) {
      // Presets without that level need not say that its threshold is not below the one before.
      scheduler.third = std::max(scheduler.third, scheduler.second);
    }
    return std::make_unique<CacheAdaptor<Cache>>(settings.shape, settings.limits, S{}, scheduler);
  }
};

}  // namespace detail

/// @brief A cache of the given type behind the engine's interface.
template <class Cache>
std::unique_ptr<AttentionCache> make_cache(CacheSettings const& settings) {
  return detail::CacheBuilder<Cache>::build(settings);
}

}  // namespace llama
