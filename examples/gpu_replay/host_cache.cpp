#include "host_cache.hpp"

#include <kvfreeze/presets.hpp>

namespace replay {

namespace {

class Cache final : public HostCache {
 public:
  Cache(kvfreeze::Shape const& shape, kvfreeze::Limits const& limits,
        kvfreeze::LadderScheduler<> const& scheduler)
      : cache_(shape, limits, {}, scheduler), sequence_(cache_.open()) {}

  void attend(int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out) override {
    cache_.attend(sequence_, layer, q, k, v, out);
  }

  kvfreeze::StepReport advance(std::span<float const> logits) override {
    return cache_.advance(sequence_, logits);
  }

  void fidelities(int layer, int lane, std::span<kvfreeze::Fidelity> out) override {
    cache_.fidelities(sequence_, layer, lane, out);
  }

 private:
  kvfreeze::presets::KvFreeze<> cache_;
  kvfreeze::Sequence sequence_;
};

}  // namespace

std::unique_ptr<HostCache> make_host_cache(kvfreeze::Shape const& shape,
                                           kvfreeze::Limits const& limits,
                                           kvfreeze::LadderScheduler<> const& scheduler) {
  return std::make_unique<Cache>(shape, limits, scheduler);
}

}  // namespace replay
