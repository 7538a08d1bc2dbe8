#pragma once

#include <kvfreeze/kvfreeze.hpp>

#include "../caches.hpp"
#include "../user_error.hpp"
#include "../watch.hpp"

#include <memory>
#include <span>
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
    if (settings.missed_mass) {
      if constexpr (requires { scheduler.missed_mass = 0.0F; }) {
        scheduler.missed_mass = *settings.missed_mass;
      } else {
        throw UserError("--missed-mass: this preset's scheduler has no such setting");
      }
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
